//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/sys/unix"
)

// run is one running of a container that this Runtime supervises: from its
// start, or its adoption, to the record of its end.
type run struct {
	rt     *Runtime
	id     string
	handle *handle
	// proc is nil if another process, or an earlier Runtime, started it.
	proc  *os.Process
	log   *logfile.Writer
	pumps *logpipe.Pumps
	// done is closed when nothing of the run is left and its end is recorded.
	done chan struct{}
	// release ends the supervision, and left is closed when it has ended before the
	// run did; leftErr says then why that could not be recorded.
	release context.CancelFunc
	left    chan struct{}
	leftErr error

	mu     sync.Mutex
	record record
	reaped bool
}

// killPatience bounds how long a killed process may take to disappear. Only one
// that hangs in the kernel, as on a dead network file system, takes long.
const killPatience = 20 * time.Second

// watch waits for the end in a goroutine that Close waits for.
func (r *Runtime) watch(n *run) {
	ctx, release := context.WithCancel(r.ctx)
	n.release, n.left = release, make(chan struct{})
	r.mu.Lock()
	r.runs[n.id] = n
	r.mu.Unlock()
	r.watchers.Go(func() {
		defer release()
		if err := n.handle.wait(ctx); err != nil {
			if ctx.Err() == nil {
				r.log.Error("cannot watch a container", "id", n.id, "error", err)
			}
			n.leave()
			return
		}
		n.finish()
	})
}

// sink is where the container's output goes.
func (n *run) sink() logpipe.Sink { return logpipe.Sink{ID: n.id, Log: n.log, Logger: n.rt.log} }

// over reports whether the end was recorded.
func (n *run) over() bool {
	select {
	case <-n.done:
		return true
	default:
		return false
	}
}

func (n *run) status() runtime.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.record.status(n.id)
}

// signal sends a signal to the group.
func (n *run) signal(sig syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.handle.signalGroup(sig, n.proc != nil && !n.reaped)
}

// leave gives up supervision and leaves everything else as it is.
func (n *run) leave() {
	defer close(n.left)
	n.pumps.End(false)
	n.rt.mu.Lock()
	delete(n.rt.runs, n.id)
	n.rt.mu.Unlock()
	n.mu.Lock()
	n.record.Owner = nil
	err := n.rt.save(n.id, n.record)
	n.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.leftErr = err
		n.rt.log.Error("cannot record that a container has no supervisor", "id", n.id, "error", err)
	}
	n.log.Close()
	n.handle.close()
	if n.proc != nil {
		_ = n.proc.Release()
	}
}

// finish cleans up after the first process has ended: the rest is killed while
// the group is still certain to be ours, the output is read to its end, and
// only then is the end recorded.
func (n *run) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	if err := killAll(ctx, n.id, &n.handle.identity, n); err != nil {
		n.rt.log.Error("processes of a container remain after its end", "id", n.id, "error", err)
	}
	n.pumps.End(true)
	if err := n.log.Finish(time.Now()); err != nil {
		n.rt.log.Error("cannot finish a container's log", "id", n.id, "error", err)
	}
	n.log.Close()

	exit := n.reap()
	n.mu.Lock()
	n.record = n.record.ended(exit)
	err := n.rt.save(n.id, n.record)
	n.mu.Unlock()
	n.rt.mu.Lock()
	if err == nil {
		delete(n.rt.runs, n.id)
	} else {
		// Kept, so that at least this program knows.
		n.rt.log.Error("cannot record a container's end", "id", n.id, "error", err)
	}
	n.rt.mu.Unlock()
	close(n.done)
}

// reap takes the exit code and lets the process id go.
func (n *run) reap() lifecycle.Exit {
	n.mu.Lock()
	defer n.mu.Unlock()
	exit := unknownExit()
	if n.proc == nil {
		exit = exitOf(n.handle)
	} else if state, err := n.proc.Wait(); err == nil {
		exit.Code = exitCode(state.Sys().(syscall.WaitStatus))
	}
	n.reaped = true
	n.handle.close()
	return exit
}

// exitOf returns the end of a process that has ended, as far as the system tells.
func exitOf(h *handle) lifecycle.Exit {
	exit := reapChild(h.identity)
	if exit.Code == lifecycle.UnknownExitCode {
		if status, ok := h.exitStatus(); ok {
			exit.Code = exitCode(status)
		}
	}
	return exit
}

// reapChild waits for an ended process that is a child of ours after all, as
// when one Runtime of this program started it and another adopted it.
func reapChild(i identity) lifecycle.Exit {
	exit := unknownExit()
	if p, err := identify(i.PID); err != nil || p.identity != i || !p.ended {
		return exit
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(i.PID, &status, syscall.WNOHANG, nil); err == nil && pid == i.PID {
		exit.Code = exitCode(status)
	}
	return exit
}

// exitCode is a shell's way of telling signals from exit statuses.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// killAll kills what runs of a container, besides its first process if that is
// waited for elsewhere, until nothing is left of it. n is the run, or nil where
// there is none.
func killAll(ctx context.Context, id string, leader *identity, n *run) error {
	for {
		if n != nil {
			if err := n.signal(unix.SIGKILL); err != nil {
				return err
			}
		}
		left, err := members(id, leader)
		if err != nil || len(left) == 0 {
			return err
		}
		if err := killEach(ctx, left); err != nil {
			return err
		}
	}
}

// killEach kills processes and waits for their end.
func killEach(ctx context.Context, procs []identity) error {
	var held []*handle
	defer func() {
		for _, h := range held {
			h.close()
		}
	}()
	for _, i := range procs {
		h, err := openHandle(i)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return err
		}
		held = append(held, h)
		if err := h.signal(unix.SIGKILL); err != nil {
			return fmt.Errorf("kill process %d: %w", i.PID, err)
		}
	}
	for _, h := range held {
		if err := h.wait(ctx); err != nil {
			return fmt.Errorf("process %d does not end: %w", h.PID, err)
		}
	}
	return nil
}
