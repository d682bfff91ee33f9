//go:build linux

package containerd

import (
	"context"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/moby/sys/signal"
)

// lastSignal is the highest number of a signal (SIGRTMAX).
const lastSignal = 64

// Stop sends the image's stop signal, else SIGTERM, to the container's first
// process, and SIGKILL to all when grace is over. A second Stop with a shorter
// grace shortens a first one. A container that nobody supervises is adopted for
// it; one that another living process supervises is that one's to stop, and
// gives an error.
func (r *Runtime) Stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, done, err := r.enter(ctx, "stop", id)
	if err != nil {
		return err
	}
	defer openOrphans(r.path(id, "io"))()
	return done(explainShim(ctx, id, r.stop(ctx, id, grace)))
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
		sig, err := r.stopSignal(ctx, id)
		if err != nil {
			return err
		}
		r.step(ctx, "signal the first process")
		if err := n.signal(ctx, sig); err != nil {
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
	r.step(ctx, "kill all processes")
	if err := n.signal(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	late := time.NewTimer(r.endPatience)
	defer late.Stop()
	select {
	case <-n.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.C:
		return r.stuck(ctx)
	}
}

func (r *Runtime) stopSignal(ctx context.Context, id string) (syscall.Signal, error) {
	c, err := r.client(ctx)
	if err != nil {
		return 0, err
	}
	container, err := c.LoadContainer(ctx, id)
	if err != nil {
		return 0, err
	}
	labels, err := container.Labels(ctx)
	if err != nil {
		return 0, err
	}
	name := labels[client.StopSignalLabel]
	if name == "" {
		return syscall.SIGTERM, nil
	}
	sig, err := signal.ParseSignal(name)
	if err != nil || sig <= 0 || sig > lastSignal {
		// The image's author is not here to correct it, and a stop has to work.
		r.log.Warn("the image's stop signal (STOPSIGNAL) is none: sending SIGTERM", "id", id, "signal", name)
		return syscall.SIGTERM, nil
	}
	return sig, nil
}

// Wait blocks until the container does not run.
func (r *Runtime) Wait(ctx context.Context, id string) (runtime.Status, error) {
	ctx, done, err := r.enter(ctx, "wait", id)
	if err != nil {
		return runtime.Status{}, err
	}
	st, err := r.await(ctx, id, func(st runtime.Status) bool { return st.State != lifecycle.Running })
	return st, done(err)
}
