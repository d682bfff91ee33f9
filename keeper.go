package budgie

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/store"
)

// A keeper looks after one container for as long as this client owns it: it
// makes the observed state follow the desired one, and the rest of the world
// (published ports, announcement) follow the observed one. One goroutine, run,
// does all of it; the other methods may be called from anywhere.
//
// It is level-triggered: events only make it look again, and what it does
// next follows from the record alone (lifecycle.Next).
type keeper struct {
	c        *Client
	rt       Runtime
	id       string
	detached bool
	log      *slog.Logger

	// poked holds a value when the stored record may have changed.
	poked chan struct{}
	// ready is closed when the container first served.
	ready chan struct{}
	// done is closed when the keeper has nothing left to do.
	done chan struct{}
	// release undoes the tie to the context that governs the container.
	release func() bool
	// output is closed when onLog has had the whole log.
	output chan struct{}
	// leave ends the keeper and leaves the container to the next owner.
	leave context.CancelFunc

	mu  sync.Mutex
	rec lifecycle.Container
	// endReason is set when the client itself wants the container to end.
	endReason string
	// killed is set when the container is to end without grace.
	killed bool
	// cause is the error behind the record's last failure.
	cause error
	// tail is the end of the log of a container that never became ready.
	tail []string

	// The rest belongs to run.

	// current is the run of the container that is being watched, nil between
	// runs.
	current *watchedRun
	// pub holds the published ports, from the first start to the last end.
	pub *publication
	// announced is what the network knows of the container.
	announced bool
}

// errDone ends the keeper's loop.
var errDone = errors.New("nothing left to do")

// storeRetry is how long the keeper waits before it tries again what the
// store refused, as when a disk is full.
const storeRetry = time.Second

// keep starts a keeper for a record that this client owns, which ends the
// container when governor ends. With resume, it first finds out what became of
// the container under an earlier owner. onLog, which may be nil, gets the
// container's log.
func (c *Client) keep(governor context.Context, rec lifecycle.Container, resume bool, onLog func(lifecycle.Container, runtime.LogEntry)) (*keeper, error) {
	rt, err := c.runtimeNamed(rec.Runtime)
	if err != nil {
		return nil, err
	}
	k := &keeper{
		c: c, rt: rt, id: rec.ID, rec: rec, detached: rec.Detached,
		log:   c.log.With("container", rec.ShortID(), "name", rec.Name),
		poked: make(chan struct{}, 1),
		ready: make(chan struct{}),
		done:  make(chan struct{}),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if old := c.keepers[rec.ID]; old != nil {
		return old, nil
	}
	c.keepers[rec.ID] = k
	k.release = context.AfterFunc(governor, func() { k.endWith("the context that governed it ended") })
	ctx, leave := context.WithCancel(c.life)
	k.leave = leave
	k.startOutput(onLog)
	c.wg.Go(func() {
		k.run(ctx, resume)
		c.forget(k)
	})
	return k, nil
}

// forget drops a keeper that is done.
func (c *Client) forget(k *keeper) {
	c.mu.Lock()
	delete(c.keepers, k.id)
	c.mu.Unlock()
	k.release()
	k.leave()
	close(k.done)
	c.pokeSupervisor()
}

// poke makes the keeper look at the stored record again.
func (k *keeper) poke() {
	select {
	case k.poked <- struct{}{}:
	default:
	}
}

// endWith makes the keeper stop the container.
func (k *keeper) endWith(reason string) {
	k.mu.Lock()
	if k.endReason == "" {
		k.endReason = reason
	}
	k.mu.Unlock()
	k.poke()
}

// record returns the record as the keeper last saw or wrote it.
func (k *keeper) record() lifecycle.Container {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rec
}

func (k *keeper) setRecord(rec lifecycle.Container) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rec = rec
	if rec.Ready && !isClosed(k.ready) {
		close(k.ready)
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// last returns the end of the log of a container that never became ready, and
// the error behind its last failure, nil where there is none.
func (k *keeper) last() (tail []string, cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tail, k.cause
}

func (k *keeper) setFailure(err error) {
	k.mu.Lock()
	k.cause = err
	k.mu.Unlock()
}

// update changes the stored record. A program that ends does not wait for a
// store that fails: the change is then made in memory alone, and the next owner
// finds out from the runtime.
func (k *keeper) update(ctx context.Context, change func(*lifecycle.Container) error) error {
	rec, err := store.Modify(ctx, k.c.store, k.id, change)
	if err != nil && k.ending() && !errors.Is(err, store.ErrNotFound) && !gone(err) {
		rec = k.record()
		if change(&rec) == nil {
			k.log.Error("cannot store what became of the container", "error", err)
			err = nil
		}
	}
	if err != nil {
		return err
	}
	k.setRecord(rec)
	return nil
}

// run does what is to be done until nothing is left, or ctx ends, which leaves
// the container as it is for the next owner.
func (k *keeper) run(ctx context.Context, resume bool) {
	if k.record().Ready {
		close(k.ready)
	}
	defer k.letGo()
	for resume && ctx.Err() == nil {
		if err := k.resume(ctx); err != nil {
			k.log.Error("cannot take over the container", "error", err)
			k.pause(ctx, storeRetry)
			continue
		}
		resume = false
	}
	for ctx.Err() == nil {
		err := k.applyEnd(ctx)
		if err == nil {
			err = k.step(ctx)
		}
		switch {
		case err == nil:
		case errors.Is(err, errDone):
			k.finish(ctx)
			return
		case errors.Is(err, store.ErrNotFound), gone(err):
			k.log.Warn("the container's record was removed; ending it")
			k.abandon(ctx)
			return
		case ctx.Err() == nil:
			k.log.Error("cannot look after the container", "error", err)
			k.pause(ctx, storeRetry)
		}
	}
}

// step does the next thing.
func (k *keeper) step(ctx context.Context) error {
	k.reflect(ctx, k.record())
	switch step := lifecycle.Next(k.record(), time.Now()); step.Do {
	case lifecycle.Create, lifecycle.Start, lifecycle.Restart:
		return k.start(ctx)
	case lifecycle.Stop:
		return k.stop(ctx, "")
	case lifecycle.Replace:
		return k.stop(ctx, "its health check failed")
	case lifecycle.Settle:
		return k.update(ctx, func(c *lifecycle.Container) error {
			return c.MarkFailed(time.Now(), c.Reason, rand.Float64())
		})
	case lifecycle.Done:
		return errDone
	default:
		return k.await(ctx, step.Until)
	}
}

// await blocks until something happens, or until the given time if it is set.
func (k *keeper) await(ctx context.Context, until time.Time) error {
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	var exited <-chan runtime.Status
	var probed <-chan verdict
	if k.current != nil {
		exited, probed = k.current.exited, k.current.probed
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer:
		return nil
	case st := <-exited:
		return k.markEnded(ctx, st, "")
	case v := <-probed:
		return k.observe(ctx, v)
	case <-k.poked:
		return k.refresh(ctx)
	}
}

// refresh reads the stored record again.
func (k *keeper) refresh(ctx context.Context) error {
	rec, err := k.c.store.Get(ctx, k.id)
	if err != nil {
		return err
	}
	k.setRecord(rec)
	return nil
}

// grace returns how long the container may take to stop.
func (k *keeper) grace() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.killed {
		return 0
	}
	return k.rec.Grace()
}

// kill makes the keeper end the container without grace.
func (k *keeper) kill(reason string) {
	k.mu.Lock()
	k.killed = true
	k.mu.Unlock()
	k.endWith(reason)
}

// applyEnd turns the client's own wish to end the container into the desired
// state.
func (k *keeper) applyEnd(ctx context.Context) error {
	k.mu.Lock()
	reason, desired := k.endReason, k.rec.Desired
	k.mu.Unlock()
	if reason == "" || desired == lifecycle.WantStopped {
		return nil
	}
	return k.update(ctx, func(c *lifecycle.Container) error {
		if c.Desired == lifecycle.WantStopped {
			return store.ErrUnchanged
		}
		c.Desired = lifecycle.WantStopped
		c.RestartAt = time.Time{}
		c.Reason = reason
		return nil
	})
}

// ending reports whether the client itself wants the container to end.
func (k *keeper) ending() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.endReason != ""
}

// pause waits for d, a poke or the end of ctx.
func (k *keeper) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-k.poked:
	}
}

// observe takes what a probe said.
func (k *keeper) observe(ctx context.Context, v verdict) error {
	if v.err != nil {
		k.log.Debug("probe failed", "error", v.err)
	}
	change := func(c *lifecycle.Container) error {
		ready := c.Ready || v.ready
		if c.State != lifecycle.Running || c.Ready == ready && c.Health == v.health {
			return store.ErrUnchanged
		}
		c.Ready, c.Health = ready, v.health
		return nil
	}
	// The published ports lead to the container before anybody is told that it
	// is ready.
	if next := k.record(); change(&next) == nil {
		k.reflect(ctx, next)
	}
	return k.update(ctx, change)
}

// finish tidies up after a container that is done.
func (k *keeper) finish(ctx context.Context) {
	rec := k.record()
	if !isClosed(k.ready) {
		tail := k.c.logTail(ctx, rec, logTailLines)
		k.mu.Lock()
		k.tail = tail
		k.mu.Unlock()
	}
	if !rec.AutoRemove {
		return
	}
	k.awaitOutput()
	if err := k.c.removeRecord(ctx, rec); err != nil {
		k.log.Warn("cannot remove the finished container", "error", err)
	}
}

// abandon ends and deletes a container that has no record any more.
func (k *keeper) abandon(ctx context.Context) {
	k.letGo()
	if err := k.rt.Stop(ctx, k.id, k.grace()); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		k.log.Warn("cannot stop a container without a record", "error", err)
		return
	}
	if err := k.rt.Remove(ctx, k.id); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		k.log.Warn("cannot remove a container without a record", "error", err)
	}
}

// letGo gives back what this process holds for the container, and leaves the
// container itself alone. It may be called again.
func (k *keeper) letGo() {
	// The keeper's own context may have ended, and saying goodbye needs one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.c.life), letGoTimeout)
	defer cancel()
	k.withdraw(ctx)
	k.unwatch()
	k.unpublish(ctx)
}

// letGoTimeout bounds how long connections may go on at a published port
// whose container is gone or goes to another owner.
const letGoTimeout = 2 * time.Second
