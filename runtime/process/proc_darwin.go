package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// procInfo is what the system says of a process.
type procInfo struct {
	identity
	group int
	// ended means that it only waits to be waited for.
	ended bool
}

// stateZombie is SZOMB of sys/proc.h.
const stateZombie = 5

// identify looks at a process.
func identify(pid int) (procInfo, error) {
	boot, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return procInfo{}, fmt.Errorf("read the machine's boot id: %w", err)
	}
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return procInfo{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	if int(k.Proc.P_pid) != pid {
		return procInfo{}, fmt.Errorf("look at process %d: %w", pid, os.ErrNotExist)
	}
	return infoOf(boot, *k), nil
}

func infoOf(boot string, k unix.KinfoProc) procInfo {
	start := k.Proc.P_starttime
	return procInfo{
		identity: identity{
			PID:   int(k.Proc.P_pid),
			Start: uint64(start.Sec)*1_000_000 + uint64(start.Usec),
			Boot:  boot,
		},
		group: int(k.Eproc.Pgid),
		ended: k.Proc.P_stat == stateZombie,
	}
}

// members returns the processes that run in the group of a container's first
// process. A process id is not given again while it names a group, so the group
// is the container's unless another process has the id.
func members(_ string, leader *identity) ([]identity, error) {
	if leader == nil {
		return nil, nil
	}
	self, err := identify(os.Getpid())
	if err != nil {
		return nil, err
	}
	if leader.Boot != self.Boot {
		return nil, nil
	}
	if p, err := identify(leader.PID); err == nil && p.identity != *leader {
		return nil, nil
	}
	all, err := unix.SysctlKinfoProcSlice("kern.proc.pgrp", leader.PID)
	if err != nil {
		return nil, fmt.Errorf("list process group %d: %w", leader.PID, err)
	}
	var out []identity
	for _, k := range all {
		if p := infoOf(self.Boot, k); !p.ended && p.PID != self.PID && p.Start >= leader.Start {
			out = append(out, p.identity)
		}
	}
	return out, nil
}

// handle is a hold on one process. Its end is seen through a kqueue; signals
// check first that the process id still means the same process.
type handle struct {
	identity
	mu sync.Mutex
	kq int // -1 when closed
}

var errGone = errors.New("process is gone")

// wakeIdent is the user event that ends a wait.
const wakeIdent = 1

// openHandle takes hold of a process, or returns errGone.
func openHandle(i identity) (*handle, error) {
	if i.PID <= 0 {
		return nil, errGone
	}
	kq, err := unix.Kqueue()
	if err != nil {
		return nil, fmt.Errorf("kqueue: %w", err)
	}
	unix.CloseOnExec(kq)
	events := make([]unix.Kevent_t, 2)
	unix.SetKevent(&events[0], wakeIdent, unix.EVFILT_USER, unix.EV_ADD|unix.EV_CLEAR)
	unix.SetKevent(&events[1], i.PID, unix.EVFILT_PROC, unix.EV_ADD)
	events[1].Fflags = unix.NOTE_EXIT
	_, err = unix.Kevent(kq, events, nil, nil)
	p, ierr := identify(i.PID)
	if ierr != nil || p.identity != i {
		unix.Close(kq)
		return nil, errGone
	}
	// A process that has ended cannot be watched; wait sees that it has.
	if err != nil && !p.ended && !errors.Is(err, unix.ESRCH) {
		unix.Close(kq)
		return nil, fmt.Errorf("watch process %d: %w", i.PID, err)
	}
	return &handle{identity: i, kq: kq}, nil
}

// wait returns nil when the process has ended. One goroutine may wait at a time.
func (h *handle) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		wake := make([]unix.Kevent_t, 1)
		unix.SetKevent(&wake[0], wakeIdent, unix.EVFILT_USER, 0)
		wake[0].Fflags = unix.NOTE_TRIGGER
		if h.kq >= 0 {
			_, _ = unix.Kevent(h.kq, wake, nil, nil)
		}
	})
	defer stop()
	got := make([]unix.Kevent_t, 1)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !h.alive() {
			return nil
		}
		if _, err := unix.Kevent(h.kq, nil, got, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", h.PID, err)
		} else if err == nil && got[0].Filter == unix.EVFILT_PROC {
			return nil
		}
	}
}

// signal sends a signal to the process. One that has ended gives no error.
func (h *handle) signal(sig syscall.Signal) error { return h.kill(h.PID, sig) }

// signalGroup sends a signal to the group of which the process is the leader.
func (h *handle) signalGroup(sig syscall.Signal, _ bool) error { return h.kill(-h.PID, sig) }

func (h *handle) kill(target int, sig syscall.Signal) error {
	if p, err := identify(h.PID); err != nil || p.identity != h.identity {
		return nil
	}
	// EPERM is what macOS says of a group in which all have ended.
	if err := unix.Kill(target, sig); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

func (h *handle) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kq >= 0 {
		unix.Close(h.kq)
		h.kq = -1
	}
}

// exitStatus returns how the process ended, of which nobody but its parent is told.
func (h *handle) exitStatus() (status syscall.WaitStatus, ok bool) { return 0, false }
