//go:build linux

package lan

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// Avahi is an avahi-daemon, with the message bus that it needs.
type Avahi struct {
	host   *Host
	daemon *Cmd
}

const avahiConfig = `[server]
host-name=%s
use-ipv4=yes
use-ipv6=yes
[wide-area]
enable-wide-area=no
[publish]
publish-hinfo=no
publish-workstation=no
[reflector]
[rlimits]
`

// Avahi starts avahi-daemon in the host and waits until it has probed for its
// host name.
func (h *Host) Avahi() *Avahi {
	h.lab.t.Helper()
	bus := h.Command("dbus-daemon", "--system", "--nofork", "--nopidfile", "--print-address=1")
	h.lab.must(bus.Start())
	bus.Await("unix:path=")
	config := h.Write("avahi.conf", fmt.Sprintf(avahiConfig, h.Name))
	a := &Avahi{h, h.Command("avahi-daemon", "--no-drop-root", "--no-rlimits", "--file", config)}
	h.lab.must(a.daemon.Start())
	a.daemon.Await("Server startup complete")
	return a
}

// HostName returns the name that the daemon defends, which is not the host's
// after a conflict.
func (a *Avahi) HostName() string {
	a.host.lab.t.Helper()
	out := a.host.Run("dbus-send", "--system", "--print-reply=literal", "--dest=org.freedesktop.Avahi", "/", "org.freedesktop.Avahi.Server.GetHostName")
	return strings.TrimSpace(out)
}

// Printed returns what the daemon has logged.
func (a *Avahi) Printed() string { return a.daemon.Printed() }

// Container is a network namespace in a host, as that of a container.
type Container struct {
	space
	host *Host
}

// Docker gives the host a bridge docker0 with the address 172.17.0.1, and
// containers with the addresses 172.17.0.2 and so on whose veth ends are named
// veth2 and so on.
func (h *Host) Docker(containers int) []*Container {
	l := h.lab
	l.t.Helper()
	l.must(h.first.ip("link add docker0 type bridge mcast_snooping 0\naddr add 172.17.0.1/16 brd + dev docker0\nlink set docker0 up"))
	var list []*Container
	for i := range containers {
		cmd := h.Command("sleep", "infinity")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		l.must(cmd.Start())
		c := &Container{space{cmd.Process.Pid}, h}
		l.must(h.first.ip("link add veth%d type veth peer name eth0 netns %d\nlink set veth%[1]d master docker0 up", i+2, c.pid))
		l.must(c.ip("link set lo up\nlink set eth0 up\naddr add 172.17.0.%d/16 brd + dev eth0\nroute add default via 172.17.0.1", i+2))
		list = append(list, c)
	}
	return list
}

// Start starts a command in the container's network.
func (c *Container) Start(cmd *exec.Cmd) error { return c.in(everything, cmd.Start) }

// Do runs a function on a thread in the container: see [Host.Do].
func (c *Container) Do(do func() error) error { return c.in(everything, do) }

// Stop sends SIGTERM to a started command and waits until it has ended, with
// status 0.
func (c *Cmd) Stop() {
	l := c.host.lab
	l.t.Helper()
	l.must(c.Process.Signal(syscall.SIGTERM))
	if err := c.Wait(); err != nil {
		l.t.Fatalf("host %s: %s ended with %v: %s", c.host.Name, c.Cmd, err, c.Printed())
	}
}
