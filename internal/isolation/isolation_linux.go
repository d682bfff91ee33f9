package isolation

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// stage is the environment variable that says how far the isolation has come.
const stage = "BUDGIE_TEST_STAGE"

// scope is the environment variable with the name under which everything of a
// test process is found outside its namespaces, which is in cgroups alone.
const scope = "BUDGIE_TEST_SCOPE"

// Isolate is called first in TestMain. For root it runs the test binary again
// in mount, network and process namespaces of its own, with an empty /run and a
// loopback interface that nobody else sees, and exits with its exit code; in
// there, and for everybody else, it returns.
func Isolate() {
	if os.Geteuid() != 0 {
		return
	}
	var code int
	var err error
	switch os.Getenv(stage) {
	case "":
		code, err = outside()
	case "init":
		code, err = inside()
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "isolation:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Isolated reports whether this process is in the namespaces that Isolate made.
func Isolated() bool { return os.Getenv(stage) == "test" }

// Begun reports whether this process, or one that it descends from, was started
// by Isolate.
func Begun() bool { return os.Getenv(stage) != "" }

// Scope is the name under which what a test leaves outside its namespaces is
// removed: cgroups whose name begins with it. It is empty unless Isolated.
func Scope() string { return os.Getenv(scope) }

// again runs this program again with its arguments.
func again(next string, attr *syscall.SysProcAttr, env ...string) (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(append(os.Environ(), env...), stage+"="+next)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("enter stage %s: %w", next, err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	return cmd, nil
}

func outside() (int, error) {
	runtime.LockOSThread() // Pdeathsig is that of the thread
	name := fmt.Sprintf("budgietest-%d", os.Getpid())
	// Temporary files of a test that is killed go with it, too.
	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return 1, err
	}
	cmd, err := again("init", &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}, scope+"="+name, "TMPDIR="+dir)
	if err != nil {
		return 1, errors.Join(err, os.RemoveAll(dir))
	}
	_ = cmd.Wait()
	// Nothing runs in there any more: the process namespace has ended.
	return cmd.ProcessState.ExitCode(), errors.Join(removeCgroups(name), os.RemoveAll(dir))
}

// inside is the first process of the namespaces.
func inside() (int, error) {
	if err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"),
		os.MkdirAll("/var/lib/cni", 0o755),
		unix.Mount("tmpfs", "/var/lib/cni", "tmpfs", 0, "mode=755"),
	); err != nil {
		return 1, fmt.Errorf("make a place of our own: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("ip link set lo up: %w: %s", err, out)
	}
	cmd, err := again("test", nil)
	if err != nil {
		return 1, err
	}
	// Orphans of the whole namespace end up here.
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, err
		case pid == cmd.Process.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == cmd.Process.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// removeCgroups removes the cgroups of all namespaces of containerd whose name
// begins with the scope's.
func removeCgroups(name string) error {
	var errs []error
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		tops, err := filepath.Glob(pattern + name + "*")
		errs = append(errs, err)
		for _, top := range tops {
			var dirs []string
			errs = append(errs, filepath.WalkDir(top, func(path string, entry os.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					dirs = append(dirs, path)
				}
				return err
			}))
			for i := len(dirs) - 1; i >= 0; i-- {
				errs = append(errs, unix.Rmdir(dirs[i]))
			}
		}
	}
	return errors.Join(errs...)
}
