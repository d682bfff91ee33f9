//go:build linux

package containerd

import (
	"context"
	"fmt"
	"time"

	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
)

// Adopt takes over the supervision of a container whose supervisor is dead or
// has closed its Runtime. If the container ended meanwhile, its end is recorded,
// with the exit code that containerd kept, and what it left is cleaned up.
func (r *Runtime) Adopt(ctx context.Context, id string) (runtime.Status, error) {
	ctx, done, err := r.enter(ctx, "adopt", id)
	if err != nil {
		return runtime.Status{}, err
	}
	st, err := r.adopt(ctx, id)
	return st, done(err)
}

func (r *Runtime) adopt(ctx context.Context, id string) (runtime.Status, error) {
	unlock, err := r.locks.Lock(ctx, id)
	if err != nil {
		return runtime.Status{}, err
	}
	defer unlock()
	if n := r.current(id); n != nil {
		return n.status(), nil
	}
	defer openOrphans(r.path(id, "io"))()
	c, err := r.load(id)
	if err != nil || c.PID == 0 {
		if err == nil && c.Starting {
			err = r.clear(ctx, id)
		}
		return c.status(id), err
	}
	task, st, err := r.task(ctx, id)
	if gone(err) != nil {
		return runtime.Status{}, err
	}
	if err != nil || st.Status == client.Stopped || st.Status == client.Created {
		return r.bury(ctx, id, c)
	}
	n := &run{rt: r, id: id, task: task, record: c, done: make(chan struct{})}
	if err := n.takeOver(); err != nil {
		return runtime.Status{}, err
	}
	r.watch(n)
	return n.status(), nil
}

// Release gives up the supervision of a container, which runs on: another process can
// adopt it, or this one again. It implements [runtime.Releaser].
func (r *Runtime) Release(ctx context.Context, id string) error {
	ctx, done, err := r.enter(ctx, "release", id)
	if err != nil {
		return err
	}
	unlock, err := r.locks.Lock(ctx, id)
	if err != nil {
		return done(err)
	}
	defer unlock()
	if n := r.current(id); n != nil {
		n.release()
		select {
		case <-n.left:
		case <-n.done: // it ended meanwhile
		}
	}
	return done(nil)
}

// takeOver begins to supervise a run that another supervisor began.
func (n *run) takeOver() (err error) {
	if n.lock, err = n.rt.supervise(n.id); err != nil {
		return err
	}
	s, err := logpipe.Open(n.rt.path(n.id, "io"))
	if err != nil {
		n.lock.Close()
		return err
	}
	if n.log, err = logfile.ResumeWriter(n.rt.path(n.id, "log"), n.rt.logLimit()); err != nil {
		s.Close()
		n.lock.Close()
		return err
	}
	n.pumps = n.rt.pipes.Pump(s, n.sink())
	return nil
}

// bury cleans up after a run whose supervisor did not see its end, or did not
// live to record it.
func (r *Runtime) bury(ctx context.Context, id string, c record) (runtime.Status, error) {
	n := &run{rt: r, id: id, record: c, done: make(chan struct{})}
	if err := n.takeOver(); err != nil {
		return runtime.Status{}, err
	}
	task, st, err := r.task(ctx, id)
	exit := r.exit(c, st, err)
	if err == nil {
		n.task = task
		exit.OOMKilled = exit.OOMKilled || n.oomKilled(ctx, exit)
	}
	err = r.clear(ctx, id)
	n.pumps.End(true)
	defer n.lock.Close()
	defer n.log.Close()
	if err != nil {
		return runtime.Status{}, fmt.Errorf("clean up after its end: %w", err)
	}
	if err := n.log.Finish(time.Now()); err != nil {
		r.log.Error("cannot finish a container's log", "id", id, "error", err)
	}
	c = c.ended(exit)
	return c.status(id), r.save(id, c)
}
