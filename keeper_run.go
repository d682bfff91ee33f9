package budgie

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/store"
)

// A watchedRun is one run of a container's process, from start to end, with
// the goroutines that wait for its end and probe its health.
type watchedRun struct {
	addrs  []runtime.Address
	exited chan runtime.Status
	probed chan verdict
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// start brings a container that is not running to Running, creating it first
// where the runtime does not have it.
func (k *keeper) start(ctx context.Context) error {
	if k.record().State == lifecycle.Stopped {
		if err := k.update(ctx, (*lifecycle.Container).MarkCreated); err != nil {
			return err
		}
	}
	var st runtime.Status
	var err error
	k.whileWanted(ctx, func(ctx context.Context) { st, err = k.startInRuntime(ctx) })
	if err != nil {
		if ctx.Err() != nil || k.unwanted() {
			return ctx.Err() // what it had begun is settled next
		}
		k.setFailure(err)
		return k.update(ctx, func(c *lifecycle.Container) error {
			return c.MarkFailed(time.Now(), err.Error(), rand.Float64())
		})
	}
	return k.markRunning(ctx, st)
}

// whileWanted calls f, which may take long, with a context that ends as soon as
// somebody wants the container to end.
func (k *keeper) whileWanted(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	for {
		select {
		case <-done:
			return
		case <-k.poked:
			err := k.refresh(ctx)
			if k.unwanted() || errors.Is(err, store.ErrNotFound) {
				cancel()
				<-done
				k.poke() // the loop has yet to see it
				return
			}
		}
	}
}

// settle ends what a start had begun before the container was not wanted any
// more.
func (k *keeper) settle(ctx context.Context) error {
	k.withinGrace(ctx, k.unpublish)
	if err := k.stopInRuntime(ctx); err != nil {
		return err
	}
	return k.update(ctx, func(c *lifecycle.Container) error {
		if c.State != lifecycle.Creating && c.State != lifecycle.Created {
			return store.ErrUnchanged
		}
		return c.MarkFailed(time.Now(), c.Reason, rand.Float64())
	})
}

// startInRuntime opens the published ports and starts the process.
func (k *keeper) startInRuntime(ctx context.Context) (runtime.Status, error) {
	rec := k.record()
	if err := k.publish(ctx, rec); err != nil {
		return runtime.Status{}, err
	}
	err := k.rt.Create(ctx, runtime.Config{ID: rec.ID, Spec: rec.Spec, ImageDigest: rec.ImageDigest})
	if err != nil && !errors.Is(err, runtime.ErrExists) {
		return runtime.Status{}, err
	}
	st, err := k.rt.Start(ctx, rec.ID)
	if errors.Is(err, runtime.ErrRunning) {
		return k.rt.Adopt(ctx, rec.ID)
	}
	return st, err
}

// markRunning records a start and begins to watch the run.
func (k *keeper) markRunning(ctx context.Context, st runtime.Status) error {
	err := k.update(ctx, func(c *lifecycle.Container) error {
		if c.State == lifecycle.Creating {
			if err := c.MarkCreated(); err != nil {
				return err
			}
		}
		c.Endpoints = k.endpoints()
		return c.MarkRunning(st.PID, st.StartedAt)
	})
	if err != nil {
		return err
	}
	k.setFailure(nil)
	k.watch(ctx, st)
	return nil
}

// resume finds out what became of a container under an earlier owner.
func (k *keeper) resume(ctx context.Context) error {
	rec := k.record()
	if k.c.hand.isTaking() && rec.Desired == lifecycle.WantRunning && !rec.Finished() {
		// Whatever state it is in, its ports were open.
		if err := k.publish(ctx, rec); err != nil {
			return err
		}
	}
	if rec.State == lifecycle.Stopped {
		return nil
	}
	st, err := k.rt.Adopt(ctx, k.id)
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		if rec.State == lifecycle.Running {
			return k.markEnded(ctx, runtime.Status{ID: k.id, State: lifecycle.Stopped}, "")
		}
		return nil
	case err != nil:
		return err
	case st.State == lifecycle.Running:
		return k.resumeRunning(ctx, rec, st)
	case rec.State == lifecycle.Running:
		return k.markEnded(ctx, st, "")
	}
	return nil
}

// resumeRunning goes on with a container that still runs. One that is wanted
// stopped gets no ports again.
func (k *keeper) resumeRunning(ctx context.Context, rec lifecycle.Container, st runtime.Status) error {
	if rec.Desired == lifecycle.WantRunning {
		if err := k.publish(ctx, rec); err != nil {
			if k.portMayBecomeFree(err) {
				return err
			}
			// Somebody took the port meanwhile. The container is of no use
			// without it: let the restart policy try again.
			k.log.Error("cannot publish the ports of an adopted container", "error", err)
			return k.stop(ctx, err.Error())
		}
	}
	if rec.State != lifecycle.Running {
		return k.markRunning(ctx, st)
	}
	err := k.update(ctx, func(c *lifecycle.Container) error {
		if rec.Desired == lifecycle.WantRunning {
			c.Endpoints = k.endpoints()
		}
		c.PID = st.PID
		return nil
	})
	if err != nil {
		return err
	}
	k.watch(ctx, st)
	return nil
}

// portPatience is how long a port of a running container may be taken before that is
// stopped: what an earlier owner has under way there may take a moment to end.
const portPatience = 3 * time.Second

// portMayBecomeFree reports whether to wait for a port that cannot be opened.
func (k *keeper) portMayBecomeFree(err error) bool {
	if k.portTaken.IsZero() {
		k.portTaken = time.Now()
	}
	return errors.Is(err, syscall.EADDRINUSE) && time.Since(k.portTaken) < portPatience
}

// stop ends a running container: the network hears of it first, then requests
// under way end, then the process does. Each of the two may take as long as the
// container's grace, which somebody may shorten meanwhile. Ports stay open where
// the container will start again.
func (k *keeper) stop(ctx context.Context, reason string) error {
	k.withdraw(ctx)
	k.setServing(nil)
	if k.record().Desired == lifecycle.WantStopped {
		k.withinGrace(ctx, func(ctx context.Context) {
			k.unpublish(ctx)
			k.drainTunnels(ctx)
			k.awaitLingering(ctx)
		})
	} else {
		k.pub.setLocal(nil, false)
	}
	if err := k.stopInRuntime(ctx); err != nil {
		return err
	}
	st, err := k.rt.Status(ctx, k.id)
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("status after stop: %w", err)
	}
	return k.markEnded(ctx, st, reason)
}

// stopInRuntime ends the container's process, if it runs. An attempt that fails while
// there is grace left is no reason to kill it: the next one has the rest of the time.
func (k *keeper) stopInRuntime(ctx context.Context) error {
	if k.stopping.IsZero() {
		k.stopping = time.Now()
	}
	var err error
	left := time.Until(k.stopping.Add(k.grace()))
	over := left <= 0
	if !over {
		k.withinGrace(ctx, func(ctx context.Context) {
			err = k.rt.Stop(ctx, k.id, left)
			over = err != nil && ctx.Err() != nil // it was shortened
		})
	}
	if over && ctx.Err() == nil {
		err = k.rt.Stop(ctx, k.id, 0)
	}
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("stop container: %w", err)
	}
	k.stopping = time.Time{}
	return nil
}

// withinGrace calls f with a context that ends when the grace is over.
func (k *keeper) withinGrace(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	for {
		over := time.NewTimer(time.Until(began.Add(k.grace())))
		select {
		case <-over.C:
			cancel()
			<-done
			return
		case <-done:
			over.Stop()
			return
		case <-k.poked:
			over.Stop()
			if err := k.refresh(ctx); err != nil {
				k.log.Debug("cannot see whether the container is to stop sooner", "error", err)
			}
		}
	}
}

// endedRun is the end of a run.
type endedRun struct {
	exit   lifecycle.Exit
	reason string
}

// markEnded records the end of a run. A status without an exit, as of a
// container that the runtime lost, is an unknown end at this moment.
func (k *keeper) markEnded(ctx context.Context, st runtime.Status, reason string) error {
	k.unwatch()
	k.probed = nil
	k.ended = &endedRun{lifecycle.Exit{Code: lifecycle.UnknownExitCode, At: time.Now()}, reason}
	if st.Exit != nil {
		k.ended.exit = *st.Exit
	}
	return k.storeEnd(ctx)
}

// storeEnd stores the end of the last run, if that is not stored yet.
func (k *keeper) storeEnd(ctx context.Context) error {
	if k.ended == nil {
		return nil
	}
	err := k.update(ctx, func(c *lifecycle.Container) error {
		if c.State != lifecycle.Running {
			return store.ErrUnchanged
		}
		if k.ended.reason != "" {
			c.Reason = k.ended.reason
		}
		return c.MarkStopped(k.ended.exit, rand.Float64())
	})
	if err == nil {
		k.logEnd()
		k.ended = nil
	}
	return err
}

// logEnd says how a run ended that nobody asked to end, and what follows.
func (k *keeper) logEnd() {
	rec := k.record()
	if rec.Desired != lifecycle.WantRunning {
		return
	}
	if rec.Finished() {
		k.log.Info("the container ended", "why", rec.EndReason())
		return
	}
	k.log.Warn("the container ended, and is started again", "why", rec.EndReason(), "restarts", rec.Restarts, "in", max(0, time.Until(rec.RestartAt)).Round(time.Millisecond))
}

// watch begins to wait for the end of a run and to probe it.
func (k *keeper) watch(ctx context.Context, st runtime.Status) {
	k.unwatch()
	ctx, cancel := context.WithCancel(ctx)
	w := &watchedRun{
		addrs:  st.Addresses,
		exited: make(chan runtime.Status, 1),
		probed: make(chan verdict),
		cancel: cancel,
	}
	k.current = w
	w.wg.Go(func() {
		for ctx.Err() == nil {
			st, err := k.rt.Wait(ctx, k.id)
			if err != nil && ctx.Err() == nil && !errors.Is(err, runtime.ErrNotFound) {
				k.complain(fmt.Errorf("wait for the container's end: %w", err))
				wait(ctx, storeRetry)
				st, err = k.rt.Status(ctx, k.id)
				if err == nil && st.State == lifecycle.Running {
					continue
				}
			}
			if err == nil || errors.Is(err, runtime.ErrNotFound) {
				w.exited <- st
				return
			}
		}
	})
	p := newProber(k.rt, k.record(), st, func(problem error) {
		k.log.Warn("the container runs, but accepts no connections at its port so far, and gets no traffic; a process finds the port to listen at in its environment variable PORT", "error", problem)
	})
	w.wg.Go(func() { p.run(ctx, w.probed) })
	select {
	case k.started <- struct{}{}:
	default:
	}
}

// unwatch ends the watching of a run.
func (k *keeper) unwatch() {
	if k.current != nil {
		k.current.cancel()
		k.current.wg.Wait()
		k.current = nil
	}
}

// wait blocks for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// implied reports whether a specification declares no health check but ports
// that tell by accepting whether the container serves.
func implied(spec bunfile.Spec) bool {
	return spec.Healthcheck == nil && len(tcpPorts(spec)) > 0
}

// tcpPorts returns the TCP ports of a specification, in order.
func tcpPorts(spec bunfile.Spec) []bunfile.Port {
	var ports []bunfile.Port
	for _, p := range spec.Ports {
		if p.Protocol != bunfile.UDP {
			ports = append(ports, p)
		}
	}
	return ports
}
