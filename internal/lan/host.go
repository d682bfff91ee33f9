//go:build linux

package lan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Host is a machine of the laboratory.
type Host struct {
	// Name is its host name.
	Name string
	// Dir is its data directory, which is there after a PowerOff, too.
	Dir string

	lab   *Lab
	etc   string
	first *first
	off   bool
	nics  []*NIC
	// running are the commands that were started since the host is on.
	running []*Cmd
}

// hostScript prepares a host. Duplicate address detection would make every new
// address of no use for a second.
const hostScript = `
mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mkdir -p /run/lock /run/dbus /var/lib/cni
mount -t tmpfs -o mode=755 tmpfs /var/lib/cni
for f in hosts hostname machine-id resolv.conf; do
	[ -e /etc/$f ] || : >/etc/$f
	mount --bind "$LAN_ETC/$f" /etc/$f
done
hostname "$LAN_NAME"
echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
echo 0 >/proc/sys/net/ipv6/conf/default/accept_ra
ip link set lo up`

// Host returns a new host with a card on each of the switches, named eth0, eth1
// and so on, which runs nothing yet.
func (l *Lab) Host(name string, switches ...*Switch) *Host {
	l.t.Helper()
	h := &Host{Name: name, lab: l, Dir: filepath.Join(l.t.TempDir(), "data"), etc: l.t.TempDir()}
	for file, text := range map[string]string{
		"hosts":       "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + name + "\n",
		"hostname":    name + "\n",
		"machine-id":  fmt.Sprintf("%032x\n", len(l.hosts)+1),
		"resolv.conf": "# no name server\n",
	} {
		l.must(os.WriteFile(filepath.Join(h.etc, file), []byte(text), 0o644))
	}
	l.must(h.boot())
	l.hosts = append(l.hosts, h)
	for _, sw := range switches {
		h.Plug(sw)
	}
	return h
}

func (h *Host) boot() error {
	var err error
	h.first, err = boot(hostScript, "LAN_ETC="+h.etc, "LAN_NAME="+h.Name)
	return err
}

// PowerOff does what a power cut does: nothing of the host is on the network any
// more, and all its processes are killed. Its files are left, but for /run.
func (h *Host) PowerOff() {
	h.lab.t.Helper()
	if h.off {
		h.lab.t.Fatalf("host %s is off already", h.Name)
	}
	for _, n := range h.nics {
		h.lab.must(h.lab.cabinet.ip("link del %s", n.port))
		n.there = false
	}
	h.kill()
	h.off = true
}

// PowerOn boots the host again, with the cards and addresses that it had.
func (h *Host) PowerOn() {
	h.lab.t.Helper()
	if !h.off {
		h.lab.t.Fatalf("host %s is on already", h.Name)
	}
	h.lab.must(h.boot())
	h.off = false
	for _, n := range h.nics {
		n.connect()
	}
}

// Cmd is a command that runs in a host. What it and its children print is kept
// for Printed and Await unless Stdout and Stderr are set; pipes cannot be used.
type Cmd struct {
	*exec.Cmd
	host  *Host
	out   *output
	ended chan struct{}
	err   error
}

// Command returns a command to run in the host, to be started with its Start or
// Run. "budgie" is this module's own. The working directory is h.Dir, which is
// made if need be, and BUDGIE_DATA_DIR is a directory in it.
func (h *Host) Command(name string, args ...string) *Cmd {
	h.lab.t.Helper()
	if name == "budgie" {
		file, err := budgie()
		h.lab.must(err)
		name = file
	}
	return h.wrap(exec.Command(name, args...))
}

func (h *Host) wrap(cmd *exec.Cmd) *Cmd {
	h.lab.must(os.MkdirAll(h.Dir, 0o700))
	cmd.Dir = h.Dir
	cmd.Env = append(os.Environ(), "BUDGIE_DATA_DIR="+filepath.Join(h.Dir, "budgie"), "PWD="+h.Dir)
	return &Cmd{Cmd: cmd, host: h, out: newOutput()}
}

// Start starts a command in the host. Whoever does that must wait for its end
// while the host is on and after, since the host is not off before: Cmd does.
func (h *Host) Start(cmd *exec.Cmd) error { return h.first.in(everything, cmd.Start) }

// Start starts the command, which ends with the host at the latest.
func (c *Cmd) Start() error {
	if c.Stdout == nil {
		c.Stdout = c.out
	}
	if c.Stderr == nil {
		c.Stderr = c.out
	}
	// Daemons inherit the output, and it has no end to wait for.
	c.WaitDelay = outputDelay
	if err := c.host.Start(c.Cmd); err != nil {
		return err
	}
	c.ended = make(chan struct{})
	go func() {
		defer close(c.ended)
		if c.err = c.Cmd.Wait(); errors.Is(c.err, exec.ErrWaitDelay) {
			c.err = nil
		}
	}()
	c.host.running = append(c.host.running, c)
	return nil
}

// Wait waits for the end of a started command.
func (c *Cmd) Wait() error {
	<-c.ended
	return c.err
}

// kill kills everything in the host and waits for it.
func (h *Host) kill() {
	h.first.kill()
	for _, c := range h.running {
		<-c.ended
	}
	h.running = nil
}

// Run starts the command and waits for its end. The error has its output.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	if err := c.Wait(); err != nil {
		return fmt.Errorf("host %s: %s: %w: %s", c.host.Name, c.Cmd, err, c.Printed())
	}
	return nil
}

// Printed returns what the command has printed so far.
func (c *Cmd) Printed() string { return c.out.String() }

// Await waits until the command has printed a text, from now on or before. It
// ends the test if that does not happen.
func (c *Cmd) Await(text string) {
	c.host.lab.t.Helper()
	if !c.out.wait(c.ended, func(all string) bool { return strings.Contains(all, text) }) {
		c.host.lab.t.Fatalf("host %s: %s did not print %q within %v, but:\n%s", c.host.Name, c.Cmd, text, patience, c.Printed())
	}
}

// AwaitLine waits until the command has printed a line that is ok, at or after
// an offset in what it printed. It returns the line and the offset behind it. It
// ends the test if that does not happen; what says in words what is waited for.
func (c *Cmd) AwaitLine(what string, from int, ok func(line string) bool) (string, int) {
	c.host.lab.t.Helper()
	var line string
	found := c.out.wait(c.ended, func(text string) bool {
		for from < len(text) {
			n := strings.IndexByte(text[from:], '\n')
			if n < 0 {
				break
			}
			line = text[from : from+n]
			if from += n + 1; ok(line) {
				return true
			}
		}
		return false
	})
	if !found {
		c.host.lab.t.Fatalf("host %s: %s did not print %s within %v, but:\n%s", c.host.Name, c.Cmd, what, patience, c.Printed())
	}
	return line, from
}

// Run runs a command in the host and returns what it printed.
func (h *Host) Run(name string, args ...string) string {
	h.lab.t.Helper()
	cmd := h.Command(name, args...)
	h.lab.must(cmd.Run())
	return cmd.Printed()
}

// Do runs a function on a thread in the host and returns when that does. See the
// package documentation about goroutines. The function must not end the test.
func (h *Host) Do(do func() error) error { return h.first.in(everything, do) }

// Write makes a file in the host's directory and returns its name.
func (h *Host) Write(name, text string) string {
	h.lab.t.Helper()
	file := filepath.Join(h.Dir, name)
	h.lab.must(os.MkdirAll(filepath.Dir(file), 0o700))
	h.lab.must(os.WriteFile(file, []byte(text), 0o644))
	return file
}

// output keeps what is written to it.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buf.Write(p)
}

var _ io.Writer = (*output)(nil)

// String returns what was written so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// wait reports whether what was written was ok before the end of patience, and
// before the command ended.
func (o *output) wait(ended <-chan struct{}, ok func(all string) bool) bool {
	over := newDeadline()
	defer over.Stop()
	for last := false; ; {
		o.mu.Lock()
		found, changed := ok(o.buf.String()), o.changed
		o.mu.Unlock()
		if found || last {
			return found
		}
		select {
		case <-changed:
		case <-ended:
			last = true // after one more look
		case <-over.C:
			return false
		}
	}
}
