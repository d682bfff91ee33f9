//go:build linux

package containerdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/isolation"
	"github.com/budgiehq/budgie/internal/testenv"
	containerd "github.com/containerd/containerd/v2/client"
)

// Need skips the test, or fails it where everything must run, if a private
// containerd cannot be started here.
func Need(t testing.TB) {
	t.Helper()
	testenv.NeedRoot(t)
	if names := missing(); names != "" {
		testenv.Skip(t, "needs "+names+": run tools/setup.sh")
	}
	for _, v := range []Version{Distribution, Latest} {
		if _, _, err := v.programs(); err != nil {
			testenv.Skip(t, err.Error()+": run tools/setup.sh")
		}
	}
	if !isolation.Isolated() {
		t.Fatal("TestMain does not call containerdtest.Isolate")
	}
}

// Daemon is a private containerd. Its methods may not be called concurrently.
type Daemon struct {
	// Address is its socket.
	Address string
	// Namespace is for the test to use, so that its cgroups are found.
	Namespace string
	// Dir holds all files of it: root, which survives a reboot, and state,
	// which does not.
	Dir string
	// Version is never the zero value.
	Version Version

	start  func(*exec.Cmd) error
	cmd    *exec.Cmd
	output bytes.Buffer
	ended  chan struct{}
}

// daemonConfigs leave out what no test needs and what takes time to start.
var daemonConfigs = map[Version]string{
	Distribution: `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = %q
[debug]
level = "warn"
`,
	Latest: `version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.image-verifier.v1.bindir",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs"]
[grpc]
address = %q
[debug]
level = "warn"
`,
}

// patience bounds the start and the end of a daemon.
const patience = 60 * time.Second

// Start starts a containerd in a process of its own whose files are in dir, and
// waits until it serves.
func Start(dir string) (*Daemon, error) { return StartVersion("", dir) }

// StartVersion is Start of a certain containerd.
func StartVersion(v Version, dir string) (*Daemon, error) {
	return start(v, dir, (*exec.Cmd).Start)
}

// StartOn is Start with another way of starting a process, such as one in
// namespaces of its own. The daemon's socket must be seen from here, too.
func StartOn(dir string, startProcess func(*exec.Cmd) error) (*Daemon, error) {
	return start("", dir, startProcess)
}

func start(v Version, dir string, startProcess func(*exec.Cmd) error) (*Daemon, error) {
	v, err := v.resolve()
	if err != nil {
		return nil, err
	}
	d := &Daemon{start: startProcess, Dir: dir, Address: filepath.Join(dir, "containerd.sock"), Namespace: isolation.Scope(), Version: v}
	config := fmt.Sprintf(daemonConfigs[v], filepath.Join(dir, "root"), filepath.Join(dir, "state"), d.Address)
	if err := os.WriteFile(d.config(), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return d, d.Start()
}

func (d *Daemon) config() string { return filepath.Join(d.Dir, "config.toml") }

// Start starts the daemon again after a Kill.
func (d *Daemon) Start() error {
	program, dir, err := d.Version.programs()
	if err != nil {
		return err
	}
	ready, err := listenReady(d.Dir)
	if err != nil {
		return err
	}
	defer ready.Close()
	d.output.Reset()
	d.cmd = exec.Command(program, "--config", d.config())
	d.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready.LocalAddr().String())
	if dir != "" {
		d.cmd.Env = append(d.cmd.Env, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	d.cmd.Stdout, d.cmd.Stderr = &d.output, &d.output
	// Shims inherit the output, so that it has no end to wait for.
	d.cmd.WaitDelay = time.Millisecond
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := d.start(d.cmd); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	cmd, ended := d.cmd, make(chan struct{})
	d.ended = ended
	go func() {
		_ = cmd.Wait()
		close(ended)
		_ = ready.SetReadDeadline(time.Unix(1, 0)) // it will never be ready
	}()
	if err := d.serves(ready); err != nil {
		d.Kill()
		return fmt.Errorf("containerd does not serve: %w\n%s", err, &d.output)
	}
	return nil
}

// listenReady listens for the message that a containerd is ready, of which it tells
// systemd otherwise (sd_notify(3)). A client that tries to connect before that would
// wait for a second before it tries again.
func listenReady(dir string) (*net.UnixConn, error) {
	path := filepath.Join(dir, "ready.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return c, c.SetReadDeadline(time.Now().Add(patience))
}

// serves waits until the daemon has said that it is ready, and answers.
func (d *Daemon) serves(ready *net.UnixConn) error {
	message := make([]byte, 4096)
	for n := 0; !strings.Contains(string(message[:n]), "READY=1"); {
		var err error
		if n, err = ready.Read(message); err != nil {
			return err
		}
	}
	c, err := d.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if ok, err := c.IsServing(ctx); err != nil || !ok {
		return errors.Join(errors.New("it says that it is ready, and does not answer"), err)
	}
	return nil
}

// Client returns a client whose default namespace is the daemon's.
func (d *Daemon) Client() (*containerd.Client, error) {
	return containerd.New(d.Address, containerd.WithDefaultNamespace(d.Namespace))
}

// Kill kills the daemon as a crash does: shims and containers go on.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill() // an error means that it has ended already
	<-d.ended
}

// Signal sends the daemon alone a signal, such as SIGSTOP, which makes it hang.
func (d *Daemon) Signal(sig syscall.Signal) error { return d.cmd.Process.Signal(sig) }

// Crash kills the daemon, all shims, and the given first processes of containers.
func (d *Daemon) Crash(containers ...int) error {
	d.Kill()
	shims, err := Processes("containerd-shim")
	if err != nil {
		return err
	}
	for _, pid := range append(shims, containers...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// Reboot does to the daemon, its shims, containers and /run/budgie what a crash
// of the machine does, and starts the daemon again: what is in its root stays.
func (d *Daemon) Reboot(containers ...int) error {
	if err := d.Crash(containers...); err != nil {
		return err
	}
	state := filepath.Join(d.Dir, "state")
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, state) || strings.HasPrefix(at, "/run/budgie/") {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", at, err)
			}
		}
	}
	if err := errors.Join(os.RemoveAll(state), os.RemoveAll("/run/budgie"), os.RemoveAll("/run/containerd"),
		exec.Command("ip", "link", "delete", "budgie0").Run(), forgetFirewall()); err != nil {
		return err
	}
	return d.Start()
}

// forgetFirewall removes all rules of the test's own network.
func forgetFirewall() error {
	for _, args := range [][]string{{"-F"}, {"-X"}, {"-t", "nat", "-F"}, {"-t", "nat", "-X"}} {
		if out, err := exec.Command("iptables", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables %q: %w: %s", args, err, out)
		}
	}
	return nil
}

// missing names the programs that a private containerd needs and that are not
// in PATH.
func missing() string {
	var names []string
	for _, name := range []string{"containerd", "runc", "containerd-shim-runc-v2", "iptables", "busybox"} {
		if _, err := exec.LookPath(name); err != nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
