//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/runtime"
)

// Adopt takes over the supervision of a container whose supervisor is dead or
// has closed its Runtime. If the container ended meanwhile, what it left is
// cleaned up and its end recorded.
func (r *Runtime) Adopt(ctx context.Context, id string) (runtime.Status, error) {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return runtime.Status{}, opError("adopt", id, err)
	}
	defer done()
	st, err := r.adopt(ctx, id)
	return st, opError("adopt", id, err)
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
	c, err := r.load(id)
	if err != nil {
		return runtime.Status{}, err
	}
	if c.Process == nil {
		// A supervisor killed in the midst of a start left at most a process
		// that waits at its gate and ends by itself; this is for the rest.
		return c.status(id), killAll(ctx, id, nil, nil)
	}
	if c.Owner != nil && *c.Owner != r.self && c.Owner.Process.alive() {
		return runtime.Status{}, fmt.Errorf("process %d supervises the container: end it first", c.Owner.Process.PID)
	}
	h, err := openHandle(*c.Process)
	if errors.Is(err, errGone) || err == nil && !c.Process.alive() {
		if h != nil {
			defer h.close()
		}
		return r.bury(ctx, id, c, h)
	}
	if err != nil {
		return runtime.Status{}, err
	}
	n := &run{rt: r, id: id, handle: h, record: c, done: make(chan struct{})}
	if err := n.takeOver(); err != nil {
		h.close()
		return runtime.Status{}, err
	}
	return n.status(), nil
}

// Release gives up the supervision of a container, which runs on: another process can
// adopt it, or this one again. It implements [runtime.Releaser].
func (r *Runtime) Release(ctx context.Context, id string) error {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return opError("release", id, err)
	}
	defer done()
	unlock, err := r.locks.Lock(ctx, id)
	if err != nil {
		return opError("release", id, err)
	}
	defer unlock()
	n := r.current(id)
	if n == nil {
		return opError("release", id, r.disown(id))
	}
	n.release()
	select {
	case <-n.left:
		return opError("release", id, n.leftErr)
	case <-n.done: // it ended meanwhile
		return nil
	}
}

// disown records that a container has no supervisor, where an earlier attempt could not
// be recorded.
func (r *Runtime) disown(id string) error {
	c, err := r.load(id)
	if errors.Is(err, runtime.ErrNotFound) || err == nil && (c.Owner == nil || *c.Owner != r.self) {
		return nil
	}
	if err != nil {
		return err
	}
	c.Owner = nil
	return r.save(id, c)
}

// takeOver begins to supervise a run that another supervisor began.
func (n *run) takeOver() error {
	r := n.rt
	s, err := logpipe.Open(r.path(n.id, "io"))
	if err != nil {
		return err
	}
	if n.log, err = logfile.ResumeWriter(r.path(n.id, "log"), r.logLimit()); err != nil {
		s.Close()
		return err
	}
	if n.record.Owner == nil || *n.record.Owner != r.self { // or its release could not be recorded
		n.record.Owner = &r.self
		if err := r.save(n.id, n.record); err != nil {
			s.Close()
			n.log.Close()
			return err
		}
	}
	n.pumps = r.pipes.Pump(s, n.sink())
	r.watch(n)
	return nil
}

// bury cleans up after a run whose end nobody saw. h is of its process, if that has not
// been waited for; it may be nil.
func (r *Runtime) bury(ctx context.Context, id string, c record, h *handle) (runtime.Status, error) {
	// The pipes are opened before those who may still hold them are killed, or
	// their content would be gone with the last of them.
	n := &run{rt: r, id: id, record: c}
	s, err := logpipe.Open(r.path(id, "io"))
	if err != nil {
		return runtime.Status{}, err
	}
	if n.log, err = logfile.ResumeWriter(r.path(id, "log"), r.logLimit()); err != nil {
		s.Close()
		return runtime.Status{}, err
	}
	defer n.log.Close()
	n.pumps = r.pipes.Pump(s, n.sink())
	err = killAll(ctx, id, c.Process, nil)
	n.pumps.End(true)
	if err != nil {
		return runtime.Status{}, err
	}
	if err := n.log.Finish(time.Now()); err != nil {
		r.log.Error("cannot finish a container's log", "id", id, "error", err)
	}
	if h != nil {
		c = c.ended(exitOf(h))
	} else {
		c = c.ended(reapChild(*c.Process))
	}
	return c.status(id), r.save(id, c)
}
