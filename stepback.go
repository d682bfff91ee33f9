package budgie

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/budgiehq/budgie/internal/restore"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// Replicas that are too many end again: those that were restored, when there are
// enough others, and, beyond replicas.max, those that joined last, as after a cut in
// the network on both sides of which there was room. Whoever keeps such a replica looks
// whether it is one; others end no replica. What began a service never ends so.

// mindRoom begins to look whether replicas that this client keeps are too many, if it
// keeps any that would end then, unless it does already.
func (c *Client) mindRoom() {
	c.mu.Lock()
	keepers := make([]*keeper, 0, len(c.keepers))
	if !c.minding && c.host.Load() == nil {
		for _, k := range c.keepers {
			keepers = append(keepers, k)
		}
	}
	c.mu.Unlock()
	for _, k := range keepers {
		rec := k.record()
		if rec.Restored || rec.Yields() && rec.Spec.Replicas.Max > 0 {
			c.spawn(c.mind)
			return
		}
	}
}

// mind looks until the client ends.
func (c *Client) mind() {
	c.mu.Lock()
	already := c.minding
	c.minding = true
	c.mu.Unlock()
	if already {
		return
	}
	stop, err := c.startHost(c.life, nil)
	if err != nil {
		c.log.Warn("replicas stay here also where there are too many", "error", err)
		return
	}
	<-c.life.Done()
	stop()
}

// stepBack begins to end a replica that is too many.
func (h *host) stepBack(ctx context.Context, d restore.Decision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving[d.Replica] = true
	h.wg.Go(func() {
		err := h.end(ctx, d)
		if err != nil && ctx.Err() == nil {
			h.c.log.Warn("cannot end a replica that is too many; trying again", "container", d.Replica[:min(12, len(d.Replica))], "error", err)
			wait(ctx, storeRetry)
		}
		h.mu.Lock()
		delete(h.leaving, d.Replica)
		h.mu.Unlock()
		h.poke()
	})
}

// end removes a restored replica, or stops one that joined, unless somebody has made it
// one that stays meanwhile.
func (h *host) end(ctx context.Context, d restore.Decision) error {
	rec, err := h.c.store.Get(ctx, d.Replica)
	log := h.c.log.With("container", rec.ShortID(), "name", rec.Name)
	switch {
	case err != nil:
	case rec.Restored:
		log.Info("the service has enough other replicas: ending the one that was restored here")
		err = h.c.Remove(ctx, d.Replica, Force())
	case rec.Yields():
		if rec, err = h.c.yield(ctx, d); err == nil {
			log.Warn("stopping a replica that joined", "why", rec.Reason)
		}
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, errStays) {
		return nil
	}
	return err
}

// errStays: the replica is none any more that ends because there are too many.
var errStays = errors.New("the replica stays")

// yield has a replica stop that a person had join. Its record is kept, and says why.
func (c *Client) yield(ctx context.Context, d restore.Decision) (lifecycle.Container, error) {
	return store.Modify(ctx, c.store, d.Replica, func(r *lifecycle.Container) error {
		if !r.Yields() || r.Finished() || r.Desired != lifecycle.WantRunning {
			return errStays
		}
		r.Joining = &lifecycle.Joining{Withdrawn: true}
		r.Desired, r.RestartAt = lifecycle.WantStopped, time.Time{}
		r.Reason = fmt.Sprintf("it joined when it did not see all others: %d replicas serve, replicas.max is %d, and it is one of those that joined last", d.Serving, d.Max)
		return nil
	})
}
