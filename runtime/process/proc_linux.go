package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procInfo is what the system says of a process.
type procInfo struct {
	identity
	group int
	// ended means that it only waits to be waited for.
	ended bool
}

// identify looks at a process.
func identify(pid int) (procInfo, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return procInfo{}, fmt.Errorf("read the machine's boot id: %w", err)
	}
	return identifyIn(string(bytes.TrimSpace(boot)), pid)
}

func identifyIn(boot string, pid int) (procInfo, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procInfo{}, err
	}
	// proc_pid_stat(5): the second field is the name in parentheses, which may
	// hold anything; the rest is counted from its end.
	i := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[i+1:]))
	if i < 0 || len(fields) < 20 {
		return procInfo{}, fmt.Errorf("/proc/%d/stat has an unknown form", pid)
	}
	group, err1 := strconv.Atoi(fields[2])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return procInfo{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	state := fields[0]
	return procInfo{
		identity: identity{PID: pid, Start: start, Boot: boot},
		group:    group,
		ended:    state == "Z" || state == "X" || state == "x",
	}, nil
}

// members returns the processes of a container that run: those with its id in
// their environment, and those in the group of its first process as long as
// that one still holds its process id, which shows that the group is the same.
func members(id string, leader *identity) ([]identity, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	self, err := identify(os.Getpid())
	if err != nil {
		return nil, err
	}
	groupIsOurs := false
	if leader != nil {
		p, err := identifyIn(self.Boot, leader.PID)
		groupIsOurs = err == nil && p.identity == *leader
	}
	want := []byte(marker + "=" + id)
	var out []identity
	var look envLooker
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self.PID {
			continue
		}
		p, err := identifyIn(self.Boot, pid)
		if err != nil || p.ended {
			continue
		}
		if leader != nil && leader.Boot == self.Boot && p.Start < leader.Start {
			continue
		}
		if groupIsOurs && p.group == leader.PID || look.has(pid, want) {
			out = append(out, p.identity)
		}
	}
	return out, nil
}

// execLooks is how often, a millisecond apart, to look at a process that shows
// no environment. One that replaces its program by another (execve) has none
// until the new program is in place, which takes a moment, longer on a busy
// machine.
const execLooks = 500

// envLooker looks at the environments of processes, in a buffer that grows to
// the size of the largest.
type envLooker struct{ buf []byte }

// read returns the environment of a process, by one system call: of one that
// replaces its program between two, only a part would be seen.
func (l *envLooker) read(pid int) ([]byte, error) {
	for size := max(32<<10, len(l.buf)); ; size *= 2 {
		if len(l.buf) < size {
			l.buf = make([]byte, size)
		}
		f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil {
			return nil, err
		}
		n, err := f.Read(l.buf)
		f.Close()
		if err != nil && err != io.EOF {
			return nil, err
		}
		if n < len(l.buf) {
			return l.buf[:n], nil
		}
	}
}

// has reports whether a process was started with a variable.
func (l *envLooker) has(pid int, want []byte) bool {
	for range execLooks {
		env, err := l.read(pid)
		if err != nil {
			return false // gone, or another user's
		}
		if len(env) > 0 {
			for kv := range bytes.SplitSeq(env, []byte{0}) {
				if bytes.Equal(kv, want) {
					return true
				}
			}
			return false
		}
		if hasNone(pid) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// hasNone reports whether a process that showed no environment has none: it was
// started without one, is one of the kernel's, or has ended.
func hasNone(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	// proc_pid_stat(5), counted from the third field.
	const state, flags, startCode, envStart, envEnd = 0, 6, 23, 47, 48
	if len(fields) <= envEnd || strings.Contains("ZXx", fields[state]) {
		return true
	}
	f, err := strconv.ParseUint(fields[flags], 10, 64)
	const kernelThread = 0x00200000 // PF_KTHREAD
	if err != nil || f&kernelThread != 0 {
		return true
	}
	// While execve puts a new program in place these are 0 at first, and the
	// environment has its beginning before its end; the code comes last.
	return fields[startCode] != "0" && fields[envEnd] != "0" && fields[envStart] == fields[envEnd]
}

// handle is a hold on one process: what is done through it never reaches
// another one, whatever becomes of the process id.
type handle struct {
	identity
	f *os.File
}

var errGone = errors.New("process is gone")

// openHandle takes hold of a process, or returns errGone.
func openHandle(i identity) (*handle, error) {
	if i.PID <= 0 {
		return nil, errGone
	}
	fd, err := unix.PidfdOpen(i.PID, 0)
	// A number that now is a thread's is no process's: ENOENT, on older kernels
	// EINVAL (pidfd_open(2); the flags, its other reason, are none).
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open, which needs Linux 5.3: %w", err)
	}
	// The descriptor holds whoever had the process id just now. If it is still
	// the one we mean, it was then.
	p, err := identify(i.PID)
	if err != nil || p.identity != i {
		unix.Close(fd)
		return nil, errGone
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &handle{identity: i, f: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// wait returns nil when the process has ended. One goroutine may wait at a time.
func (h *handle) wait(ctx context.Context) error {
	conn, err := h.f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { h.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var perr error
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			perr = err
			return true
		}
		return n > 0
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, perr)
}

// signal sends a signal to the process. One that has ended gives no error.
func (h *handle) signal(sig syscall.Signal) error {
	return h.send(sig, 0)
}

// signalGroup sends a signal to the group of which the process is the leader,
// also when it has itself ended. waitable says that it is our child and was not
// waited for, so that its process id is still its own.
func (h *handle) signalGroup(sig syscall.Signal, waitable bool) error {
	err := h.send(sig, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Before Linux 6.9.
	if waitable {
		if err := unix.Kill(-h.PID, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		return nil
	}
	return h.signal(sig)
}

func (h *handle) send(sig syscall.Signal, flags int) error {
	conn, err := h.f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := conn.Control(func(fd uintptr) {
		serr = unix.PidfdSendSignal(int(fd), sig, nil, flags)
	}); err != nil || errors.Is(serr, unix.ESRCH) {
		return nil // closed after its end, or ended
	}
	return serr
}

func (h *handle) close() { h.f.Close() }
