//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	cg1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cg2 "github.com/containerd/cgroups/v3/cgroup2/stats"

	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/gofrs/flock"
)

// run is one running of a container that this Runtime supervises: from its
// start, or its adoption, to the record of its end.
type run struct {
	rt    *Runtime
	id    string
	task  client.Task
	lock  *flock.Flock
	log   *logfile.Writer
	pumps *logpipe.Pumps
	// done is closed when nothing of the run is left and its end is recorded.
	done chan struct{}
	// release ends the supervision, and left is closed when it has ended before the
	// run did.
	release context.CancelFunc
	left    chan struct{}

	mu     sync.Mutex
	record record
	// stopping is set when the end was asked for.
	stopping bool
}

// sink is where the container's output goes.
func (n *run) sink() logpipe.Sink { return logpipe.Sink{ID: n.id, Log: n.log, Logger: n.rt.log} }

// watch waits for the end in a goroutine that Close waits for.
func (r *Runtime) watch(n *run) {
	ctx, release := context.WithCancel(r.ctx)
	n.release, n.left = release, make(chan struct{})
	r.mu.Lock()
	r.runs[n.id] = n
	r.mu.Unlock()
	r.watchers.Go(func() {
		defer release()
		exit, err := r.ended(ctx, n.task)
		if err != nil {
			n.leave()
			return
		}
		n.finish(exit)
	})
}

// reconnectEvery is how often to ask for a containerd that is not there. It has
// no event for its return.
const reconnectEvery = 200 * time.Millisecond

// ended waits for the end of a task, across restarts of containerd. Its only
// error is the end of ctx.
func (r *Runtime) ended(ctx context.Context, task client.Task) (lifecycle.Exit, error) {
	for level := slog.LevelWarn; ; level = slog.LevelDebug {
		wait, err := task.Wait(ctx)
		if err == nil {
			es := <-wait
			if err = waitError(es); err == nil {
				return lifecycle.Exit{Code: int(es.ExitCode()), At: es.ExitTime()}, nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return lifecycle.Exit{}, context.Cause(ctx)
		case errdefs.IsNotFound(err):
			return unknownExit(), nil
		}
		// Once is enough, and each container does so.
		r.log.Log(ctx, level, "lost sight of a container, and looks again until it sees it", "id", task.ID(), "error", err)
		r.reconnect(ctx)
	}
}

// waitError returns the error of a wait for an end. containerd's client leaves it
// as gRPC's (client 2.4.2), in which none of errdefs is to be found: the end of
// a task that is gone would be waited for again and again.
func waitError(es client.ExitStatus) error { return errgrpc.ToNative(es.Error()) }

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
	c := n.record
	if !n.over() {
		c.Exit = nil // it is not all there is to know yet
	}
	return c.status(n.id)
}

// signal sends a signal to the first process, to end it; SIGKILL reaches all. A shim
// may take as long to pass it on as what was killed to end.
func (n *run) signal(ctx context.Context, sig syscall.Signal) error {
	n.mu.Lock()
	n.stopping = true
	n.mu.Unlock()
	// A containerd that has come back is there only for a connection that was tried
	// again.
	if _, err := n.rt.client(ctx); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, n.rt.endPatience)
	defer cancel()
	err := n.task.Kill(short, sig)
	if gone(err) == nil {
		return nil
	}
	// A shim that ends just now answers in all sorts of ways.
	if st, serr := n.task.Status(ctx); errdefs.IsNotFound(serr) || serr == nil && st.Status == client.Stopped {
		return nil
	}
	return fmt.Errorf("send %v: %w", sig, err)
}

// leave gives up supervision and leaves everything else as it is.
func (n *run) leave() {
	defer close(n.left)
	n.pumps.End(false)
	n.rt.mu.Lock()
	delete(n.rt.runs, n.id)
	n.rt.mu.Unlock()
	n.log.Close()
	n.lock.Close()
}

// finish cleans up after the first process has ended, and all others with it,
// as they share its process namespace. What is known is recorded first, because
// containerd forgets it with the task; the pipes are emptied after the task is
// deleted, which waits until the shim has written everything into them. A
// containerd that is not there is waited for; if the Runtime is closed
// meanwhile, the run is left to the next supervisor.
func (n *run) finish(exit lifecycle.Exit) {
	ctx := during(context.WithoutCancel(n.rt.ctx), "end", n.id)
	fail := func(what string, err error) {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			n.rt.log.Error(what, "id", n.id, "error", err)
		}
	}
	n.rt.step(ctx, "ask why it ended")
	exit.OOMKilled = n.oomKilled(ctx, exit)
	n.mu.Lock()
	n.record.Exit = &exit
	n.rt.step(ctx, "record the end")
	fail("cannot record a container's end", n.rt.save(n.id, n.record))
	n.mu.Unlock()
	n.rt.step(ctx, "delete the task")
	err := n.rt.insist(ctx, n.deleteTask)
	if errdefs.IsUnavailable(err) {
		n.leave()
		return
	}
	fail("cannot delete an ended task", err)
	actx, cancel := afterwards(ctx)
	fail("cannot take a container off its network", n.rt.disconnect(actx, n.id))
	cancel()
	n.rt.step(ctx, "read the output to its end")
	n.pumps.End(true)
	n.rt.step(ctx, "finish the log")
	fail("cannot finish a container's log", n.log.Finish(time.Now()))
	n.log.Close()

	n.mu.Lock()
	n.record = n.record.ended(exit)
	n.rt.step(ctx, "record that nothing is left")
	err = n.rt.save(n.id, n.record)
	n.mu.Unlock()
	fail("cannot record a container's end", err)
	n.lock.Close()
	n.rt.mu.Lock()
	if err == nil {
		delete(n.rt.runs, n.id)
	} // else kept, so that at least this program knows
	n.rt.mu.Unlock()
	close(n.done)
}

// deleteTask deletes the task. Where there is none, containerd may have been killed while
// it did so, and not have ended the shim (that of 1.6).
func (n *run) deleteTask(ctx context.Context) error {
	_, err := n.task.Delete(ctx)
	if !errdefs.IsNotFound(err) {
		return err
	}
	n.rt.step(ctx, "settle the task")
	return n.rt.settle(ctx, n.id)
}

// oomKilled asks the container's cgroup, which is there as long as the task is,
// whether the kernel killed something in it for lack of memory. That is not why it
// ended where it ended well, or was stopped: it may have been a worker of long ago.
func (n *run) oomKilled(ctx context.Context, exit lifecycle.Exit) bool {
	n.mu.Lock()
	asked := n.stopping
	n.mu.Unlock()
	if exit.Code == 0 || asked {
		return false
	}
	var metrics any
	err := n.rt.insist(ctx, func(ctx context.Context) (err error) {
		metrics, err = taskMetrics(ctx, n.task)
		return err
	})
	if err != nil {
		if !errdefs.IsNotFound(err) {
			n.rt.log.Warn("cannot find out whether a container ran out of memory", "id", n.id, "error", err)
		}
		return false
	}
	switch m := metrics.(type) {
	case *cg1.Metrics:
		return m.GetMemoryOomControl().GetOomKill() > 0
	case *cg2.Metrics:
		return m.GetMemoryEvents().GetOomKill() > 0
	}
	return false
}
