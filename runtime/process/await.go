//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/budgiehq/budgie/runtime"
	"github.com/fsnotify/fsnotify"
)

const (
	// recordPatience is how long a living supervisor may take to record an
	// end before it counts as unknown.
	recordPatience = killPatience + 10*time.Second
	// pollEvery is how often to look where the operating system has no file
	// watch left to give.
	pollEvery = 250 * time.Millisecond
)

// await returns the status of a container as soon as until accepts it.
func (r *Runtime) await(ctx context.Context, id string, until func(runtime.Status) bool) (runtime.Status, error) {
	for {
		r.mu.Lock()
		n := r.runs[id]
		r.mu.Unlock()
		if n == nil || n.over() && !until(n.status()) {
			return r.awaitForeign(ctx, id, until)
		}
		select {
		case <-n.done:
		case <-n.left:
			continue
		case <-ctx.Done():
			return runtime.Status{}, context.Cause(ctx)
		}
		if st := n.status(); until(st) {
			return st, nil
		}
	}
}

// awaitForeign is await for a container that others supervise, or nobody. It
// is woken by changes of the status file, the container's end and its
// supervisor's.
func (r *Runtime) awaitForeign(ctx context.Context, id string, until func(runtime.Status) bool) (runtime.Status, error) {
	var events chan fsnotify.Event
	var errs chan error
	if err := r.exists(id); err != nil {
		return runtime.Status{}, err
	}
	st, _, err := r.observe(id)
	if err != nil || until(st) {
		return st, err
	}
	if w, err := fsnotify.NewWatcher(); err == nil {
		defer w.Close()
		if w.Add(r.path(id)) == nil {
			events, errs = w.Events, w.Errors
		}
	}
	var deadline time.Time
	for {
		st, c, err := r.observe(id)
		if err != nil || until(st) {
			return st, err
		}
		if c.Process != nil && !c.Process.alive() {
			if deadline.IsZero() {
				deadline = time.Now().Add(recordPatience)
			} else if time.Now().After(deadline) {
				return c.ended(unknownExit()).status(id), nil
			}
		} else {
			deadline = time.Time{}
		}
		if err := r.awaitChange(ctx, c, deadline, events, errs); err != nil {
			return runtime.Status{}, err
		}
	}
}

// awaitChange returns when something may have changed.
func (r *Runtime) awaitChange(ctx context.Context, c record, deadline time.Time, events chan fsnotify.Event, errs chan error) error {
	var procs []identity
	if c.Process != nil && deadline.IsZero() {
		procs = append(procs, *c.Process)
	}
	if c.Owner != nil && c.Owner.Process != r.self.Process {
		procs = append(procs, c.Owner.Process)
	}
	wctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	ended := make(chan struct{}, len(procs))
	for _, p := range procs {
		h, err := openHandle(p)
		if errors.Is(err, errGone) {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer h.close()
			if h.wait(wctx) == nil {
				ended <- struct{}{}
			}
		})
	}
	var poll, late <-chan time.Time
	if events == nil {
		t := time.NewTimer(pollEvery)
		defer t.Stop()
		poll = t.C
	}
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline) + time.Millisecond)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-events:
	case <-errs:
	case <-ended:
	case <-poll:
	case <-late:
	}
	return nil
}
