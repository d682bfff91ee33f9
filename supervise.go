package budgie

import (
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

type superviseConfig struct{ resident bool }

// Resident makes Supervise stay until its context ends, also while there is
// nothing to look after.
func Resident() SuperviseOption { return func(c *superviseConfig) { c.resident = true } }

// Supervise makes this client the supervisor of its data directory: it looks
// after all detached containers, those that an earlier supervisor left running
// included, and returns nil after the last one ended for good, at once where
// there is none, unless [Resident] makes it stay. When ctx ends it returns ctx's error and leaves the containers running for the next
// supervisor; their published ports are closed meanwhile. Where another
// process supervises already it returns [ErrSupervised].
func (c *Client) Supervise(ctx context.Context, opts ...SuperviseOption) error {
	var cfg superviseConfig
	for _, o := range opts {
		o(&cfg)
	}
	if err := c.open(); err != nil {
		return err
	}
	if err := c.activate(); err != nil {
		return err
	}
	for {
		release, err := c.store.Acquire(ctx, supervisorOwner)
		if errors.Is(err, store.ErrOwned) {
			return fmt.Errorf("%w: %w", ErrSupervised, err)
		}
		if err != nil {
			return err
		}
		err = c.superviseUntilIdle(ctx, cfg.resident)
		if relErr := release(); err != nil || relErr != nil {
			return errors.Join(err, relErr)
		}
		// Whoever stored a container while the name was still held counts on
		// this supervisor.
		if more, err := c.hasWork(ctx); err != nil || !more {
			return err
		}
	}
}

// superviseUntilIdle keeps detached containers until none is left, unless it is
// to stay, or ctx ends.
func (c *Client) superviseUntilIdle(ctx context.Context, stay bool) error {
	c.setSupervising(true)
	defer c.letDetachedGo()
	changes, err := c.store.Watch(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-changes:
			if !ok {
				return errors.Join(ctx.Err(), c.open())
			}
		case <-c.supervisorPoked:
		}
		if err := c.reconcile(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.log.Error("cannot look at the stored containers", "error", err)
			if !c.keepsDetached() {
				return err
			}
			wait(ctx, storeRetry)
			c.pokeSupervisor()
			continue
		}
		if !stay && !c.keepsDetached() {
			return nil
		}
	}
}

// pokeSupervisor makes a supervising client look again.
func (c *Client) pokeSupervisor() {
	select {
	case c.supervisorPoked <- struct{}{}:
	default:
	}
}

func (c *Client) setSupervising(on bool) {
	c.mu.Lock()
	c.supervising = on
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

// hasWork reports whether a detached container waits for a supervisor.
func (c *Client) hasWork(ctx context.Context) (bool, error) {
	recs, err := c.store.List(ctx)
	if err != nil {
		return false, err
	}
	for _, rec := range recs {
		if rec.Owner == supervisorOwner && !rec.Finished() {
			return true, nil
		}
	}
	return false, nil
}

// startOwning makes the client an owner: it takes its name, ends what dead
// programs left behind, and begins to follow the store.
func (c *Client) startOwning() error {
	release, err := c.store.Acquire(c.life, c.owner)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return errors.Join(ErrClosed, release())
	}
	c.closers = append(c.closers, release)
	c.mu.Unlock()

	changes, err := c.store.Watch(c.life)
	if err != nil {
		return err
	}
	if err := c.reap(c.life); err != nil {
		return err
	}
	c.wg.Go(func() {
		for range changes {
			if err := c.reconcile(c.life); err != nil && c.life.Err() == nil {
				c.log.Error("cannot look at the stored containers", "error", err)
			}
		}
	})
	return nil
}

// reconcile compares the stored records with what this client keeps: keepers
// whose record somebody else wrote look at it, and a supervisor takes on
// detached containers that nobody keeps.
func (c *Client) reconcile(ctx context.Context) error {
	recs, err := c.store.List(ctx)
	if err != nil && !gone(err) {
		return err
	}
	c.mu.Lock()
	missing := make(map[string]*keeper, len(c.keepers))
	for id, k := range c.keepers {
		missing[id] = k
	}
	supervising := c.supervising
	c.mu.Unlock()

	for _, rec := range recs {
		if k := missing[rec.ID]; k != nil {
			delete(missing, rec.ID)
			if rec.Revision > k.record().Revision {
				k.poke()
			}
		} else if supervising && rec.Detached && !rec.Finished() {
			if err := c.adopt(ctx, rec, supervisorOwner); err != nil {
				c.log.Error("cannot take on a detached container", "container", rec.ShortID(), "error", err)
			}
		}
	}
	for _, k := range missing {
		k.poke()
	}
	return err
}

// gone reports whether an error of the store says that all of it is gone, as
// after somebody removed the data directory: nothing is wanted any more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// adopt takes on a container whose owner is dead, or that was given to this
// owner name, and keeps it under that name.
func (c *Client) adopt(ctx context.Context, rec lifecycle.Container, owner string) error {
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
	_, err = c.keep(context.Background(), taken, true, nil)
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
			return fmt.Errorf("end container %s (%s), whose program died: %w", rec.Name, rec.ShortID(), err)
		}
		if k := c.keeperOf(rec.ID); k != nil {
			k.endWith("the program that ran it died")
			orphans = append(orphans, k)
		}
	}
	for _, k := range orphans {
		<-k.done
	}
	return nil
}

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
		case _, ok := <-changes:
			if !ok {
				return errors.Join(ctx.Err(), c.open())
			}
		case <-ticker.C:
		}
	}
}
