//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/sys/unix"
)

// Stop sends SIGTERM to the container's group, and SIGKILL to all its
// processes when grace is over. A second Stop with a shorter grace shortens a
// first one. A container that nobody supervises is adopted for it; one that
// another living process supervises is that one's to stop, and gives an error.
func (r *Runtime) Stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return opError("stop", id, err)
	}
	defer done()
	return opError("stop", id, r.stop(ctx, id, grace))
}

func (r *Runtime) stop(ctx context.Context, id string, grace time.Duration) error {
	n := r.current(id)
	if n == nil {
		st, err := r.adopt(ctx, id)
		if err != nil || st.State != lifecycle.Running {
			return err
		}
		if n = r.current(id); n == nil {
			return nil
		}
	}
	if grace > 0 {
		// One that is suspended must go on to be able to end.
		if err := errors.Join(n.signal(unix.SIGTERM), n.signal(unix.SIGCONT)); err != nil {
			return err
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-n.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
	if err := n.signal(unix.SIGKILL); err != nil {
		return err
	}
	select {
	case <-n.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Wait blocks until the container does not run.
func (r *Runtime) Wait(ctx context.Context, id string) (runtime.Status, error) {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return runtime.Status{}, opError("wait", id, err)
	}
	defer done()
	st, err := r.await(ctx, id, func(st runtime.Status) bool { return st.State != lifecycle.Running })
	return st, opError("wait", id, err)
}
