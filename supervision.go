package budgie

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/budgiehq/budgie/store"
)

// supervision is one Supervise.
type supervision struct {
	cfg superviseConfig
	// unlock gives the supervisor's name back.
	unlock func() error
	// taking is what is being taken over from another process, nil for nothing.
	taking *taking
	// stopHost ends being a host.
	stopHost func()
}

// lockSupervision takes the supervisor's name. It is not free either while another
// process is about to take over from a third.
func (c *Client) lockSupervision(ctx context.Context, s *supervision) (err error) {
	if s.taking != nil {
		// A third process that wants it may have it for a moment, until it sees that.
		return c.lockWhenFree(ctx, s, settleTimeout)
	}
	if s.unlock, err = c.store.Acquire(ctx, supervisorOwner); err != nil {
		return err
	}
	handing, err := c.store.Alive(ctx, handOverOwner)
	if err == nil && handing {
		err = fmt.Errorf("a process is being replaced just now: %w", store.ErrOwned)
	}
	if err != nil {
		return errors.Join(err, s.unlock())
	}
	return nil
}

// lockWhenFree takes the supervisor's name as soon as it is free, within a time.
func (c *Client) lockWhenFree(ctx context.Context, s *supervision, within time.Duration) error {
	unlock, err := c.acquireWhenFree(ctx, supervisorOwner, within)
	if err == nil {
		s.unlock = unlock
	}
	return err
}

// acquireWhenFree takes an owner name as soon as it is free, within a time.
func (c *Client) acquireWhenFree(ctx context.Context, owner string, within time.Duration) (release func() error, _ error) {
	const look = 50 * time.Millisecond
	for began := time.Now(); ; {
		release, err := c.store.Acquire(ctx, owner)
		if err == nil || !errors.Is(err, store.ErrOwned) || time.Since(began) > within {
			return release, err
		}
		if wait(ctx, look); ctx.Err() != nil {
			return nil, c.endOf(ctx)
		}
	}
}

// startHosting makes this client a host, if it is to be one.
func (c *Client) startHosting(ctx context.Context, s *supervision) error {
	s.stopHost = func() {}
	if s.cfg.host == nil {
		return nil
	}
	stop, err := c.startHost(ctx, s.cfg.host)
	if err != nil {
		return fmt.Errorf("be a host: %w", err)
	}
	s.stopHost = stop
	return nil
}

// superviseUntilIdle keeps detached containers until none is left, unless it is
// to stay, or ctx ends.
func (c *Client) superviseUntilIdle(ctx context.Context, s *supervision) error {
	c.setSupervising(true)
	c.letAsk()
	defer c.letDetachedGo()
	defer func() { s.stopHost() }()
	if s.taking != nil {
		if err := c.takeOnDetached(ctx, s); err != nil {
			return err
		}
	}
	if err := c.startHosting(ctx, s); err != nil {
		return err
	}
	changes, err := c.store.Watch(ctx)
	if err != nil {
		return err
	}
	// Containers that another living program stops may become orphans.
	waiting := false
	for {
		var again <-chan time.Time
		if waiting {
			again = time.After(turnCheck)
		}
		select {
		case <-ctx.Done():
			return c.endOf(ctx)
		case <-again:
		case _, ok := <-changes:
			if !ok {
				return cmp.Or(c.endOf(ctx), errWatchEnded)
			}
		case <-c.supervisorPoked:
		case r := <-c.hand.supervisions:
			if gone, err := c.handOverSupervision(ctx, s, r); gone || err != nil {
				return cmp.Or(err, ErrReplaced)
			}
		}
		if waiting, err = c.reconcile(ctx); err != nil {
			if ctx.Err() != nil {
				return c.endOf(ctx)
			}
			c.log.Error("cannot look at the stored containers", "error", err)
			if !c.keepsDetached() {
				return err
			}
			wait(ctx, storeRetry)
			c.pokeSupervisor()
			continue
		}
		if !s.cfg.resident && !waiting && !c.keepsDetached() {
			return nil
		}
	}
}
