//go:build linux

package containerd

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/budgiehq/budgie/runtime"
	"github.com/fsnotify/fsnotify"
)

const (
	// recordPatience is how long a supervisor that lives may take to record an
	// end that containerd knows of.
	recordPatience = undoPatience + 10*time.Second
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
// is woken by changes of the status file and by the container's end.
func (r *Runtime) awaitForeign(ctx context.Context, id string, until func(runtime.Status) bool) (runtime.Status, error) {
	st, _, err := r.observe(ctx, id)
	if err != nil || until(st) {
		return st, err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return runtime.Status{}, err
	}
	defer w.Close()
	blind := w.Add(r.path(id)) != nil
	var endedAt time.Time
	for {
		st, c, err := r.observe(ctx, id)
		if err != nil || until(st) {
			return st, err
		}
		if c.PID == 0 {
			endedAt = time.Time{}
		} else if !endedAt.IsZero() && time.Since(endedAt) > recordPatience {
			return runtime.Status{}, errors.New("the container ended, and its supervisor does not record that")
		}
		ended, err := r.awaitChange(ctx, id, c.PID != 0 && endedAt.IsZero(), blind || !endedAt.IsZero(), w)
		if err != nil {
			return runtime.Status{}, err
		}
		if ended {
			// Its supervisor is about to write that down, and nothing tells if
			// it dies before.
			endedAt = time.Now()
		}
	}
}

// awaitChange returns when something may have changed. With running set it also
// waits for the end of the container, which nobody may live to record.
func (r *Runtime) awaitChange(ctx context.Context, id string, running, poll bool, w *fsnotify.Watcher) (ended bool, err error) {
	end := make(chan struct{})
	if running {
		wctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			task, _, err := r.task(wctx, id)
			if err == nil {
				_, err = r.ended(wctx, task) // the status says how it ended
			}
			if gone(err) == nil {
				close(end)
			}
		})
	}
	var tick <-chan time.Time
	if poll {
		t := time.NewTimer(pollEvery)
		defer t.Stop()
		tick = t.C
	}
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-w.Events:
	case <-w.Errors:
	case <-tick:
	case <-end:
		return true, nil
	}
	return false, nil
}
