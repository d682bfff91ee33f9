//go:build linux

package lan

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// space is the namespaces of a process.
type space struct{ pid int }

// kinds are the namespaces that a space has, the mounts last, since the others
// are found in /proc.
func kinds() []struct {
	name string
	flag int
} {
	return []struct {
		name string
		flag int
	}{
		{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC},
		{"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS},
	}
}

// in runs do on a thread of its own in the namespaces whose flags are given.
// Processes that do starts are in them, goroutines are not.
func (s space) in(flags int, do func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread is what others take for the whole process.
			err := s.in(flags, do)
			runtime.UnlockOSThread()
			result <- err
			return
		}
		// Never unlocked: the thread ends with the goroutine.
		err := errors.New("the function did not return")
		defer func() { result <- err }()
		if err = s.enter(flags); err == nil {
			err = do()
		}
	}()
	return <-result
}

// enter moves the calling thread.
func (s space) enter(flags int) error {
	if flags&unix.CLONE_NEWNS != 0 {
		// A thread that shares its root with others cannot change its mounts.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, k := range kinds() {
		if flags&k.flag == 0 {
			continue
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", s.pid, k.name))
		if err != nil {
			return fmt.Errorf("the host is gone: %w", err)
		}
		files = append(files, f)
		if err := unix.Setns(int(f.Fd()), k.flag); err != nil {
			return fmt.Errorf("enter %s namespace: %w", k.name, err)
		}
	}
	return nil
}

// everything is all namespaces.
const everything = unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWNS

// run runs a command of this machine in the network of the space, with standard
// input if that is not empty.
func (s space) run(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.in(unix.CLONE_NEWNET, cmd.Start); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s%s", cmd, err, stdin, out.Bytes())
	}
	return nil
}

// ip runs commands of ip, one per line.
func (s space) ip(format string, args ...any) error {
	return s.run(fmt.Sprintf(format, args...)+"\n", "ip", "-batch", "-")
}

// first is the first process of a space. When it is killed, everything in the
// space is.
type first struct {
	space
	cmd *exec.Cmd
}

// boot makes namespaces and runs a shell script in them that prepares them. Its
// environment is env.
func boot(script string, env ...string) (*first, error) {
	// The shell waits for orphans, as a first process must.
	script = "set -e\n" + script + "\necho ready\nexec >/dev/null\nsleep infinity & wait\n"
	cmd := exec.Command("bash", "-c", script)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: everything}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	f := &first{space{cmd.Process.Pid}, cmd}
	line := make([]byte, len("ready\n"))
	if n, err := stdout.Read(line); err != nil || string(line[:n]) != "ready\n" {
		f.kill()
		return nil, fmt.Errorf("prepare namespaces: %w: %s", errors.Join(err, errors.New("not ready")), &stderr)
	}
	return f, nil
}

// kill ends everything in the space.
func (f *first) kill() {
	_ = f.cmd.Process.Kill() // an error means that it has ended already
	_ = f.cmd.Wait()
}
