package budgie

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
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
	c  *Client
	rt Runtime
	id string
	// supervised is true where the client keeps the container as the data
	// directory's supervisor.
	supervised bool
	log        *slog.Logger

	// poked holds a value when the stored record may have changed.
	poked chan struct{}
	// ready is closed when the container first served.
	ready chan struct{}
	// started holds a value when a run of the container has begun.
	started chan struct{}
	// over is closed when the container will not run again under this keeper.
	over chan struct{}
	// done is closed when the keeper has nothing left to do.
	done chan struct{}
	// release undoes the tie to the context that governs the container.
	release func() bool
	// output is closed when onLog has had the whole log.
	output chan struct{}
	// leaveOutput ends output before the log does; it may be called where there is none.
	leaveOutput context.CancelFunc
	// leave ends the keeper and leaves the container to the next owner.
	leave context.CancelFunc
	// halts are requests to stand still, as another process may take over, and
	// settled is closed when what an earlier owner left was taken on, or given up.
	halts   chan *halt
	settled chan struct{}
	// handed is set when another process has taken over.
	handed atomic.Bool

	mu  sync.Mutex
	rec lifecycle.Container
	// endReason is set when the client itself wants the container to end.
	endReason string
	// killed is set when the container is to end without grace.
	killed bool
	// complaint is the last error that was logged.
	complaint string
	// cause is the error behind the record's last failure.
	cause error
	// serving is where the container's ports are while it serves.
	serving []runtime.Address
	// tunnels is how many connections of other nodes the container has; idle is
	// closed when there are none, where somebody waits for that.
	tunnels int
	idle    chan struct{}
	// copies follow the owner of the volumes; nil where there are none.
	copies *volumeCopies
	// tail is the end of the log of a container that never became ready.
	tail []string

	// The rest belongs to run.

	// current is the run of the container that is being watched, nil between
	// runs.
	current *watchedRun
	// unfollow ends the following of the volumes' owner.
	unfollow func()
	// stopping is since when the container's process is being ended, zero while it is not.
	stopping time.Time
	// portTaken is when the ports of the running container could not be opened first,
	// zero while they never were tried in vain.
	portTaken time.Time
	// lingering ends that this process says that it may have connections to the
	// container that another one keeps; nil where it does not.
	lingering func()
	// pub holds the published ports, from the first start to the last end.
	pub *publication
	// announced is what the network knows of the container, and in which flock,
	// as counted by the client.
	announced   bool
	announcedIn int64
	// ended and probed are what was seen and could not be stored yet.
	ended  *endedRun
	probed *verdict
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
		c: c, rt: rt, id: rec.ID, rec: rec, supervised: rec.Owner == supervisorOwner,
		log:   c.log.With("container", rec.ShortID(), "name", rec.Name),
		poked: make(chan struct{}, 1),
		ready: make(chan struct{}), started: make(chan struct{}, 1), over: make(chan struct{}),
		done: make(chan struct{}), halts: make(chan *halt), settled: make(chan struct{}),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if k.supervised && (!c.supervising || c.standing) {
		return nil, errNotOrphan // the supervision has ended meanwhile
	}
	if old := c.keepers[rec.ID]; old != nil {
		return old, nil
	}
	c.keepers[rec.ID] = k
	k.release = context.AfterFunc(governor, func() { k.endWith("the context that governed it ended") })
	ctx, leave := context.WithCancel(c.life)
	k.leave = leave
	k.leaveOutput = func() {}
	var after time.Time
	if resume {
		after = time.Now() // the earlier owner has had the rest
	}
	k.startOutput(onLog, after)
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

// run does what is to be done until nothing is left, or ctx ends, which leaves
// the container as it is for the next owner.
func (k *keeper) run(ctx context.Context, resume bool) {
	if k.record().Ready {
		close(k.ready)
	}
	defer k.markOver()
	defer k.markSettled()
	defer k.letGo()
	k.unfollow = k.followVolumes()
	defer func() { k.unfollow() }()
	if !resume {
		k.markSettled()
	}
	next := k.look
	resumed := func(ctx context.Context) error {
		err := k.resume(ctx)
		if resume = err != nil; !resume {
			k.reflect(ctx, k.record())
			k.markSettled()
		}
		return err
	}
	if resume {
		next = resumed
	}
	for ctx.Err() == nil {
		err := next(ctx)
		if !resume {
			next = k.look
		}
		switch {
		case errors.Is(err, errHalted):
			resume, next = true, resumed
		case err == nil:
			k.complain(nil)
		case errors.Is(err, errDone):
			k.finish(ctx)
			return
		case k.recordGone(ctx, err):
			k.log.Warn("the container's record was removed; ending it")
			k.abandon(ctx)
			return
		case ctx.Err() == nil:
			k.complain(err)
			if k.pause(ctx, storeRetry) != nil {
				resume, next = true, resumed
			}
		}
	}
	k.leaveOutput()
	if err := k.releaseInRuntime(); err != nil {
		k.log.Debug("the runtime goes on looking after the container", "error", err)
	}
}

// recordGone reports whether an error comes from the container's record being gone.
// That a file is missing can come from the runtime as well, and then the store has
// the record still.
func (k *keeper) recordGone(ctx context.Context, err error) bool {
	if gone(err) {
		_, err = k.c.store.Get(ctx, k.id)
	}
	return errors.Is(err, store.ErrNotFound) || gone(err)
}

// look compares what is wanted with what is seen, and does the next thing.
func (k *keeper) look(ctx context.Context) error {
	for _, catchUp := range []func(context.Context) error{k.storeEnd, k.storeVerdict, k.applyEnd} {
		if err := catchUp(ctx); err != nil {
			return err
		}
	}
	return k.step(ctx)
}

// complain logs an error, once for as long as it comes again.
func (k *keeper) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	k.mu.Lock()
	again := text == k.complaint
	k.complaint = text
	k.mu.Unlock()
	if !again && err != nil {
		k.log.Error("cannot look after the container; trying again", "error", err)
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
		return k.settle(ctx)
	case lifecycle.Done:
		return errDone
	default:
		return k.await(ctx, step.Until)
	}
}

// await blocks until something happens, or until the given time if it is set.
func (k *keeper) await(ctx context.Context, until time.Time) error {
	k.stopping = time.Time{} // nothing is to end any more
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
	case h := <-k.halts:
		return k.stand(ctx, h)
	}
}

// pause waits for d, a poke or the end of ctx. It returns errHalted where the keeper
// stood still meanwhile.
func (k *keeper) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-k.poked:
	case h := <-k.halts:
		return k.stand(ctx, h)
	}
	return nil
}

// observe takes what a probe said.
func (k *keeper) observe(ctx context.Context, v verdict) error {
	k.probed = &v
	return k.storeVerdict(ctx)
}

// storeVerdict stores what the last probe said, if that is not stored yet.
func (k *keeper) storeVerdict(ctx context.Context) error {
	if k.probed == nil {
		return nil
	}
	v := *k.probed
	change := func(c *lifecycle.Container) error {
		if c.State != lifecycle.Running {
			return store.ErrUnchanged
		}
		c.Ready, c.Health, c.ProbeError = v.ready, v.health, v.problem
		return nil
	}
	// The published ports lead to the container before anybody is told that it
	// is ready.
	if next := k.record(); change(&next) == nil {
		k.reflect(ctx, next)
	}
	was := k.record().Health
	err := k.update(ctx, change)
	if err == nil {
		k.probed = nil
		k.logHealth(was, v)
	}
	return err
}

// logHealth says that a container became unhealthy, or is well again.
func (k *keeper) logHealth(was lifecycle.Health, v verdict) {
	switch {
	case v.health == lifecycle.Unhealthy && was != v.health:
		k.log.Warn("the container is unhealthy", "probe", v.problem)
	case v.health == lifecycle.Healthy && was == lifecycle.Unhealthy:
		k.log.Info("the container is healthy again")
	}
}

// finish tidies up after a container that is done.
func (k *keeper) finish(ctx context.Context) {
	rec := k.record()
	k.markOver()
	if !isClosed(k.ready) {
		tail := k.c.logTail(ctx, rec, logTailLines)
		k.mu.Lock()
		k.tail = tail
		k.mu.Unlock()
	}
	if !rec.AutoRemove {
		return
	}
	if k.output != nil {
		select {
		case <-k.output:
		case <-k.c.killed:
		case <-ctx.Done():
			return
		}
	}
	k.c.mu.Lock()
	k.c.removed.add(rec) // before it is gone, for whoever waits for it
	k.c.mu.Unlock()
	if err := k.c.removeRecord(ctx, rec); err != nil && !errors.Is(err, store.ErrNotFound) {
		k.log.Warn("cannot remove the finished container", "error", err)
	}
}

// markOver says that the container will not run again under this keeper.
func (k *keeper) markOver() {
	if !isClosed(k.over) {
		close(k.over)
	}
}

// abandon ends a container that has no record any more. What the runtime keeps
// of it stays: somebody may have removed the record by mistake.
func (k *keeper) abandon(ctx context.Context) {
	k.markOver()
	k.letGo()
	err := k.stopInRuntime(ctx)
	if err != nil && ctx.Err() == nil {
		err = k.rt.Stop(ctx, k.id, 0) // nobody will come back to it
	}
	if err != nil {
		k.log.Warn("cannot stop a container without a record", "error", err)
	}
}

// letGo gives back what this process holds for the container, and leaves the
// container itself alone. It may be called again.
func (k *keeper) letGo() {
	// The keeper's own context may have ended, and saying goodbye needs one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.c.life), letGoTimeout)
	defer cancel()
	if !k.handed.Load() { // or it is announced by the next one
		k.withdraw(ctx)
	}
	k.unwatch()
	k.unpublish(ctx)
}

// letGoTimeout bounds how long connections may go on at a published port
// whose container is gone or goes to another owner.
const letGoTimeout = 2 * time.Second
