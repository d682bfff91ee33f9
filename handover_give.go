package budgie

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/budgiehq/budgie/internal/handover"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/store"
)

// giver is what a client tells other processes: a [handover.Giver].
type giver struct{ c *Client }

// errGiving: one successor at a time.
var errGiving = errors.New("another process is taking over just now")

// Offer returns what is wanted, if this client has it.
func (g giver) Offer(want string) (handover.Offer, error) {
	c := g.c
	if want == wantSupervisor && c.hand.isGiving(scopeSupervisor) {
		return nil, errGiving // it stands still meanwhile, and is none to itself
	}
	o := &offer{c: c}
	switch id, ofContainer := strings.CutPrefix(want, wantContainer); {
	case want == wantSupervisor && c.isSupervising():
		o.scope = scopeSupervisor
		o.release, o.abort = o.releaseSupervision, func() { o.request.outcome <- false }
		o.done = func() {
			c.hand.setReplaced() // before the program is told, which may end then
			o.request.outcome <- true
		}
	case ofContainer && c.keeperOf(id) != nil && !c.keeperOf(id).supervised:
		o.scope = scopeOwn
		o.release, o.abort, o.done = o.releaseOwn, o.takeOwnBack, o.leaveOwn
	case strings.HasPrefix(want, wantBalance) && len(c.hand.socketsOf(want)) > 0:
		o.scope = want
		o.release = func(context.Context, string) error { return nil }
		o.abort, o.done = func() {}, func() {}
	default:
		return nil, handover.ErrNone
	}
	c.hand.mu.Lock()
	defer c.hand.mu.Unlock()
	if c.hand.giving[o.scope] {
		return nil, errGiving
	}
	c.hand.giving[o.scope] = true
	return o, nil
}

// isGiving reports whether a scope is being handed over.
func (h *handOver) isGiving(scope string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.giving[scope]
}

// Upgrade starts a successor, if the program said how.
func (g giver) Upgrade(ctx context.Context) (string, error) {
	if g.c.cfg.upgrade == nil {
		return "", errors.New("it is not the budgie command, and was not told how to upgrade itself")
	}
	return g.c.cfg.upgrade(ctx)
}

// offer is what a client gives: a [handover.Offer].
type offer struct {
	c     *Client
	scope string
	// What release, abort and done do differs between scopes. abort is called only
	// after a release without an error.
	release     func(ctx context.Context, to string) error
	abort, done func()
	released    bool
	request     *release // of a supervision
	// halts are the keepers of own containers that stand still, and to the successor
	// that they were given.
	halts halts
	to    string
}

// Busy reports whether a socket is served well.
func (o *offer) Busy() bool {
	for _, s := range o.c.hand.socketsOf(o.scope) {
		if s.busy != nil && s.busy() {
			return true
		}
	}
	return false
}

// Release lets go of everything but serving.
func (o *offer) Release(ctx context.Context, to string) ([]handover.Socket, error) {
	if o.released {
		return nil, errGiving
	}
	if err := o.release(ctx, to); err != nil {
		return nil, err
	}
	o.released = true
	var sockets []handover.Socket
	for _, s := range o.sockets() {
		sockets = append(sockets, handover.Socket{Name: s.name, Conn: s.conn})
	}
	return sockets, nil
}

// sockets returns those of the scope, and that of the endpoint, unless something stays
// here that needs it.
func (o *offer) sockets() []*heldSocket {
	all := o.c.hand.socketsOf(o.scope)
	if o.scope == scopeSupervisor && len(o.c.keepersThat(false)) == 0 || o.scope == scopeOwn && len(o.c.keepersThat(true)) == 0 {
		all = append(all, o.c.hand.socketsOf(scopeEndpoint)...)
	}
	return all
}

// Done stops accepting: the successor does.
func (o *offer) Done() {
	for _, s := range o.sockets() {
		s.leave()
		s.forget()
	}
	if o.released {
		o.done()
	}
	o.end()
	o.c.hand.setReplaced()
}

// Abort goes on as before.
func (o *offer) Abort() {
	if o.released {
		o.abort()
	}
	o.end()
}

func (o *offer) end() {
	o.c.hand.mu.Lock()
	defer o.c.hand.mu.Unlock()
	delete(o.c.hand.giving, o.scope)
}

// releaseSupervision has Supervise let go, and waits until it has.
func (o *offer) releaseSupervision(ctx context.Context, _ string) error {
	o.request = &release{ctx: ctx, reply: make(chan error, 1), outcome: make(chan bool, 1)}
	select {
	case o.c.hand.supervisions <- o.request:
	case <-ctx.Done():
		return errors.New("the supervisor is busy, or ends: try again")
	}
	return <-o.request.reply
}

// releaseOwn gives the containers that this program runs itself to another owner.
func (o *offer) releaseOwn(ctx context.Context, to string) (err error) {
	o.to = to
	if o.halts, err = o.c.haltAll(ctx, false); err != nil {
		return err
	}
	for k := range o.halts {
		if _, err = store.Modify(ctx, o.c.store, k.id, func(r *lifecycle.Container) error {
			r.Owner = to
			return nil
		}); err != nil {
			o.takeOwnBack()
			return fmt.Errorf("give container %s to the other process: %w", k.record().Name, err)
		}
	}
	return nil
}

// takeOwnBack goes on with the containers that a successor did not take.
func (o *offer) takeOwnBack() {
	ctx, cancel := context.WithTimeout(o.c.life, letGoTimeout)
	defer cancel()
	for k := range o.halts {
		_, err := store.Modify(ctx, o.c.store, k.id, func(r *lifecycle.Container) error {
			if r.Owner != o.to {
				return store.ErrUnchanged
			}
			r.Owner = o.c.owner
			return nil
		})
		if err != nil && ctx.Err() == nil {
			o.c.log.Error("cannot take a container back", "container", k.id[:12], "error", err)
		}
	}
	o.halts.resume()
}

// leaveOwn leaves the containers to the successor.
func (o *offer) leaveOwn() { o.halts.leave() }

// release is a request to let the supervision go for another process.
type release struct {
	ctx context.Context
	// reply gets what came of it; after nil, outcome gets whether the other process
	// has taken over.
	reply   chan error
	outcome chan bool
}

// halt is a request to a keeper to stand still: it serves on, and does nothing else.
type halt struct {
	// still is closed when it does, with the error where it cannot; resume ends it.
	still, resume chan struct{}
	err           error
}

// halts are the keepers that stand still.
type halts map[*keeper]*halt

// errHalted makes a keeper find out what became of its container while it stood still.
var errHalted = errors.New("the keeper stood still")

// haltAll makes all keepers stand still that supervise, or all others.
func (c *Client) haltAll(ctx context.Context, supervised bool) (halts, error) {
	all := make(halts)
	for _, k := range c.keepersThat(supervised) {
		h := &halt{still: make(chan struct{}), resume: make(chan struct{})}
		select {
		case k.halts <- h:
			all[k] = h
			<-h.still
			if h.err != nil {
				all.resume()
				return nil, fmt.Errorf("container %s: %w", k.record().Name, h.err)
			}
		case <-k.done: // it has ended
		case <-ctx.Done():
			all.resume()
			return nil, fmt.Errorf("container %s is being started or stopped: try again", k.record().Name)
		}
	}
	return all, nil
}

// resume lets the keepers go on.
func (all halts) resume() {
	for _, h := range all {
		close(h.resume)
	}
}

// leave ends the keepers: another process has taken their containers over.
func (all halts) leave() {
	for k := range all {
		k.handed.Store(true)
		k.leave()
	}
	for k := range all {
		<-k.done
	}
}

// stand serves on, and leaves the container alone until the halt ends or ctx does.
func (k *keeper) stand(ctx context.Context, h *halt) error {
	k.unfollow()
	k.unfollow = func() {}
	k.unwatch()
	if h.err = k.releaseInRuntime(); h.err != nil {
		k.unfollow = k.followVolumes()
		close(h.still)
		return errHalted
	}
	k.linger()
	close(h.still)
	select {
	case <-h.resume:
	case <-ctx.Done():
		return ctx.Err()
	}
	k.leaveLingering()
	k.unfollow = k.followVolumes()
	return errHalted
}

// releaseInRuntime lets other processes supervise the container in the runtime.
func (k *keeper) releaseInRuntime() error {
	r, ok := k.rt.(runtime.Releaser)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), letGoTimeout)
	defer cancel()
	return r.Release(ctx, k.id)
}

// markSettled says that what an earlier owner left was taken on, or given up.
func (k *keeper) markSettled() {
	if !isClosed(k.settled) {
		close(k.settled)
	}
}

// handOverSupervision lets the supervision go for another process, and returns true
// where that has taken over; otherwise all is as before.
func (c *Client) handOverSupervision(ctx context.Context, s *supervision, r *release) (gone bool, err error) {
	// From whom this client took over may have to let go of the name yet.
	letOthersKnow, err := c.acquireWhenFree(ctx, handOverOwner, settleTimeout)
	if err != nil {
		if errors.Is(err, store.ErrOwned) {
			err = fmt.Errorf("%w (%w)", errGiving, err)
		}
		r.reply <- err
		return false, nil
	}
	defer func() { err = errors.Join(err, letOthersKnow()) }()
	s.stopHost()
	c.setStanding(true)
	defer func() {
		if !gone { // else nothing is here any more that others could take over
			c.setStanding(false)
		}
	}()
	all, err := c.haltAll(r.ctx, true)
	if err == nil {
		if err = s.unlock(); err != nil {
			all.resume()
		}
	}
	r.reply <- err
	if err == nil {
		select {
		case gone = <-r.outcome:
		case <-ctx.Done():
			return false, c.endOf(ctx)
		}
		if gone {
			all.leave()
			return true, nil
		}
		c.log.Warn("another process was about to take over, and failed; this one goes on")
		if err := c.lockWhenFree(ctx, s, math.MaxInt64); err != nil {
			return false, err
		}
		all.resume()
	}
	c.pokeSupervisor()
	return false, c.startHosting(ctx, s)
}

// setStanding says whether another process may take the detached containers over, so
// that this one takes no further ones on.
func (c *Client) setStanding(on bool) {
	c.mu.Lock()
	c.standing = on
	c.mu.Unlock()
}

func (c *Client) isSupervising() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.supervising && !c.standing
}
