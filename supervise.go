package budgie

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// supervisorOwner is the owner name of a data directory's supervisor.
const supervisorOwner = "supervisor"

// SuperviseOption changes one [Client.Supervise].
type SuperviseOption func(*superviseConfig)

type superviseConfig struct {
	resident bool
	takeOver bool
	host     *HostPolicy
}

// Resident makes Supervise stay until its context ends, also while there is
// nothing to look after, and wait its turn while another process supervises.
func Resident() SuperviseOption { return func(c *superviseConfig) { c.resident = true } }

// turnCheck is how often a resident supervisor looks whether another one has
// ended.
const turnCheck = time.Second

// Supervise makes this client the supervisor of its data directory: it looks
// after all detached containers, those that an earlier supervisor left running
// included, and returns nil after the last one ended for good, at once where
// there is none, unless [Resident] makes it stay. When ctx ends it returns ctx's
// error and leaves the containers running for the next supervisor; their
// published ports are closed meanwhile. Where another process supervises already
// it returns [ErrSupervised], unless [TakingOver] makes it take that one's place; the
// other one's Supervise then returns [ErrReplaced].
func (c *Client) Supervise(ctx context.Context, opts ...SuperviseOption) error {
	var cfg superviseConfig
	for _, o := range opts {
		o(&cfg)
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := c.activate(ctx); err != nil {
		return err
	}
	s := &supervision{cfg: cfg, stopHost: func() {}}
	if cfg.takeOver {
		if s.taking, err = c.takeSupervision(ctx); err != nil {
			return err
		}
	}
	again, said := false, false
	for {
		err := c.lockSupervision(ctx, s)
		if errors.Is(err, store.ErrOwned) {
			if cfg.resident && s.taking == nil {
				if !said {
					c.log.Info("another process supervises this data directory; waiting for it to end, and neither supervising nor hosting until then", "why", err)
					said = true
				}
				if wait(ctx, turnCheck); ctx.Err() != nil {
					return c.endOf(ctx)
				}
				continue
			}
			return fmt.Errorf("%w: %w", ErrSupervised, err)
		}
		if err != nil {
			return err
		}
		err = c.superviseUntilIdle(ctx, s)
		if relErr := s.unlock(); err != nil || relErr != nil {
			return errors.Join(err, relErr)
		}
		// Whoever stored a container while the name was still held counts on
		// this supervisor.
		if more, err := c.hasWork(ctx); err != nil || !more {
			return err
		}
		if again {
			wait(ctx, storeRetry) // there is work that cannot be taken on
		}
		again = true
	}
}

// enter begins a call that Close waits for. Its context ends with ctx or with
// the client; leave ends the call.
func (c *Client) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	c.wg.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(c.life, cancel)
	return ctx, func() {
		forget()
		cancel()
		c.wg.Done()
	}, nil
}

// endOf returns why the context of a call ended: ErrClosed where the client
// did, and nil where the context has not ended.
func (c *Client) endOf(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return cmp.Or(c.open(), ctx.Err())
}

// errWatchEnded: the store broke its word.
var errWatchEnded = errors.New("the store stopped telling of changes")

// pokeSupervisor makes a supervising client look again.
func (c *Client) pokeSupervisor() {
	select {
	case c.supervisorPoked <- struct{}{}:
	default:
	}
}

func (c *Client) setSupervising(on bool) {
	c.mu.Lock()
	c.supervising, c.standing = on, false
	c.mu.Unlock()
}

// letDetachedGo ends the supervision: detached containers run on without this
// client.
func (c *Client) letDetachedGo() {
	c.setSupervising(false)
	detached := c.keepersThat(true)
	for _, k := range detached {
		k.leave()
	}
	for _, k := range detached {
		<-k.done
	}
}

func (c *Client) keepsDetached() bool { return len(c.keepersThat(true)) > 0 }

// hasWork reports whether a detached container waits for a supervisor, of which
// this client could be one.
func (c *Client) hasWork(ctx context.Context) (bool, error) {
	recs, err := c.store.List(ctx)
	if err != nil {
		return false, err
	}
	for _, rec := range recs {
		if _, err := c.runtimeNamed(rec.Runtime); err == nil && rec.Owner == supervisorOwner && !rec.Finished() {
			return true, nil
		}
	}
	return false, nil
}

// activate makes the client an owner of containers: it takes its name, follows
// the store, and ends what dead programs left behind. What failed is tried again
// by the next call.
func (c *Client) activate(ctx context.Context) error {
	select {
	case c.activating <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.activating }()
	if !c.owning {
		if err := c.startOwning(); err != nil {
			return err
		}
		c.owning = true
	}
	if !c.reaped {
		if err := c.reap(ctx); err != nil {
			return err
		}
		c.reaped = true
	}
	return nil
}

// startOwning takes the client's owner name and begins to follow the store.
func (c *Client) startOwning() error {
	release, err := c.store.Acquire(c.life, c.owner)
	if err != nil {
		return err
	}
	changes, err := c.store.Watch(c.life)
	if err == nil && !c.spawn(func() { c.followStore(changes) }) {
		err = ErrClosed
	}
	if err != nil {
		return errors.Join(err, release())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(ErrClosed, release())
	}
	c.closers = append(c.closers, release)
	return nil
}

// followStore reconciles after every change, until the client ends.
func (c *Client) followStore(changes <-chan struct{}) {
	for c.life.Err() == nil {
		for range changes {
			if _, err := c.reconcile(c.life); err != nil && c.life.Err() == nil {
				c.log.Error("cannot look at the stored containers", "error", err)
			}
		}
		if c.life.Err() != nil {
			return
		}
		c.log.Error("watching the stored containers again", "error", errWatchEnded)
		wait(c.life, storeRetry)
		if again, err := c.store.Watch(c.life); err == nil {
			changes = again
		}
	}
}

// reconcile compares the stored records with what this client keeps: keepers
// whose record somebody else wrote look at it, and a supervisor takes on
// detached containers that nobody keeps. waiting says that some are left which
// another living program keeps.
func (c *Client) reconcile(ctx context.Context) (waiting bool, err error) {
	recs, err := c.store.List(ctx)
	if err != nil && !gone(err) {
		return false, err
	}
	c.mu.Lock()
	missing := make(map[string]*keeper, len(c.keepers))
	for id, k := range c.keepers {
		missing[id] = k
	}
	supervising := c.supervising && !c.standing
	c.mu.Unlock()

	for _, rec := range recs {
		if k := missing[rec.ID]; k != nil {
			delete(missing, rec.ID)
			if rec.Revision > k.record().Revision {
				k.poke()
			}
			c.findRoom(rec)
		} else if supervising && rec.Detached && !rec.Finished() {
			if err := c.adopt(ctx, rec, supervisorOwner); err != nil {
				c.log.Error("cannot take on a detached container", "container", rec.ShortID(), "error", err)
			} else if c.keeperOf(rec.ID) != nil {
				c.findRoom(rec)
			} else if rec.Owner != supervisorOwner {
				waiting = true
			}
		}
	}
	for _, k := range missing {
		k.poke()
	}
	c.mindRoom()
	return waiting, err
}

// gone reports whether an error of the store says that all of it is gone, as
// after somebody removed the data directory: nothing is wanted any more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// adopt takes on a container whose owner is dead, or that was given to this
// owner name, and keeps it under that name.
func (c *Client) adopt(ctx context.Context, rec lifecycle.Container, owner string) error {
	if _, err := c.runtimeNamed(rec.Runtime); err != nil {
		return err
	}
	taken, err := store.Modify(ctx, c.store, rec.ID, func(r *lifecycle.Container) error {
		if r.Finished() {
			return errNotOrphan
		}
		if r.Owner == owner {
			return store.ErrUnchanged
		}
		if alive, err := c.store.Alive(ctx, r.Owner); err != nil {
			return err
		} else if alive {
			return errNotOrphan
		}
		r.Owner = owner
		return nil
	})
	if errors.Is(err, errNotOrphan) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err = c.keep(context.Background(), taken, true, nil); errors.Is(err, errNotOrphan) {
		return nil
	}
	return err
}

// errNotOrphan: somebody else looks after the container, or nobody needs to.
var errNotOrphan = errors.New("container is not an orphan")

// reap ends the containers of programs that died without stopping them, and
// returns when they have ended.
func (c *Client) reap(ctx context.Context) error {
	recs, err := c.store.List(ctx)
	if err != nil {
		return err
	}
	var orphans []*keeper
	for _, rec := range recs {
		if rec.Detached || rec.Finished() {
			continue
		}
		if err := c.adopt(ctx, rec, c.owner); err != nil {
			c.log.Warn("cannot end a container whose program died", "container", rec.ShortID(), "name", rec.Name, "error", err)
			continue
		}
		if k := c.keeperOf(rec.ID); k != nil {
			k.endWith(programDied)
			orphans = append(orphans, k)
		}
	}
	for _, k := range orphans {
		select {
		case <-k.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// programDied is why a container ends whose program died without stopping it.
const programDied = "the program that ran it died"

func (c *Client) keeperOf(id string) *keeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keepers[id]
}

// ownerCheck is how often somebody who waits for another process to act looks
// whether that process is still alive. Its death is not an event that the
// store tells.
const ownerCheck = 200 * time.Millisecond

// follow calls look with the record of id, at once, after every change of the
// store and every ownerCheck, until look says that it is done.
func (c *Client) follow(ctx context.Context, id string, look func(lifecycle.Container) (done bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := c.store.Watch(ctx)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(ownerCheck)
	defer ticker.Stop()
	for {
		rec, err := c.store.Get(ctx, id)
		if err != nil {
			return err
		}
		if done, err := look(rec); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.life.Done():
			return ErrClosed
		case _, ok := <-changes:
			if !ok {
				return cmp.Or(ctx.Err(), c.open(), errWatchEnded)
			}
		case <-ticker.C:
		}
	}
}
