package budgie

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/store"
)

// List returns all containers of the data directory, oldest first, stopped
// ones included. Those that no living process looks after are marked as
// Unsupervised and show what their runtime sees of them now.
func (c *Client) List(ctx context.Context) ([]lifecycle.Container, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	recs, err := c.store.List(ctx)
	if err != nil {
		return nil, err
	}
	alive := make(map[string]bool)
	for i, rec := range recs {
		if rec.Finished() {
			continue
		}
		is, known := alive[rec.Owner]
		if !known {
			if is, err = c.store.Alive(ctx, rec.Owner); err != nil {
				return nil, err
			}
			alive[rec.Owner] = is
		}
		if !is {
			recs[i] = c.seen(ctx, rec)
		}
	}
	return recs, nil
}

// seen returns the record of an unsupervised container as its runtime sees the
// container.
func (c *Client) seen(ctx context.Context, rec lifecycle.Container) lifecycle.Container {
	rec.Unsupervised = true
	if rec.State != lifecycle.Running {
		return rec
	}
	rt, err := c.runtimeNamed(rec.Runtime)
	if err != nil {
		return rec
	}
	st, err := rt.Status(ctx, rec.ID)
	gone := errors.Is(err, runtime.ErrNotFound)
	if err != nil && !gone || err == nil && st.State == lifecycle.Running {
		return rec
	}
	exit := lifecycle.Exit{Code: lifecycle.UnknownExitCode, At: time.Now()}
	if st.Exit != nil {
		exit = *st.Exit
	}
	_ = rec.MarkStopped(exit, 0) // it was Running
	return rec
}

// Get returns the container with the given id, unique id prefix, or name, as
// [Client.List] shows it. It returns [ErrNotFound] or [ErrAmbiguous].
func (c *Client) Get(ctx context.Context, ref string) (lifecycle.Container, error) {
	recs, err := c.List(ctx)
	if err != nil {
		return lifecycle.Container{}, err
	}
	return find(recs, ref)
}

// find returns the record that ref means: a name wins over an id prefix.
func find(recs []lifecycle.Container, ref string) (lifecycle.Container, error) {
	var matches []lifecycle.Container
	for _, rec := range recs {
		if rec.Name == ref || rec.ID == ref {
			return rec, nil
		}
		if ref != "" && strings.HasPrefix(rec.ID, strings.ToLower(ref)) {
			matches = append(matches, rec)
		}
	}
	switch len(matches) {
	case 0:
		return lifecycle.Container{}, fmt.Errorf("%w: no id begins with %.80q, and no name is that", ErrNotFound, ref)
	case 1:
		return matches[0], nil
	}
	var ids []string
	for _, m := range matches {
		ids = append(ids, fmt.Sprintf("%s (%s)", m.ShortID(), m.Name))
	}
	return lifecycle.Container{}, fmt.Errorf("%w: %q fits %s: give more of the id, or the name", ErrAmbiguous, ref, strings.Join(ids, ", "))
}

// StopOption changes one [Client.Stop] or [Client.Remove].
type StopOption func(*stopConfig)

type stopConfig struct {
	grace *time.Duration
	force bool
}

// Grace overrides how long the container may take between its stop signal and
// its kill. 0 kills at once.
func Grace(d time.Duration) StopOption { return func(c *stopConfig) { c.grace = &d } }

// Force makes [Client.Remove] stop a container that is not stopped, and
// [Client.Promote] promote a replica although that may lose something.
func Force() StopOption { return func(c *stopConfig) { c.force = true } }

// Stop stops the container that ref means (see [Client.Get]), whoever runs it,
// and returns when it has ended. It then stays stopped, whatever its restart
// policy says. Stopping a stopped container does nothing.
//
// The stop is stored before Stop waits: when ctx ends meanwhile, the container
// still stops.
func (c *Client) Stop(ctx context.Context, ref string, opts ...StopOption) error {
	rec, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	if err := c.stopRecord(ctx, rec, opts); err != nil {
		return fmt.Errorf("stop container %s: %w", rec.Name, err)
	}
	return nil
}

func (c *Client) stopRecord(ctx context.Context, rec lifecycle.Container, opts []StopOption) error {
	var cfg stopConfig
	for _, o := range opts {
		o(&cfg)
	}
	_, err := store.Modify(ctx, c.store, rec.ID, func(r *lifecycle.Container) error {
		if r.Finished() && r.Desired == lifecycle.WantStopped {
			return store.ErrUnchanged
		}
		r.Desired = lifecycle.WantStopped
		r.RestartAt = time.Time{}
		if cfg.grace != nil {
			g := bunfile.Duration(*cfg.grace)
			r.StopGrace = &g
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.follow(ctx, rec.ID, func(r lifecycle.Container) (bool, error) {
		if r.Finished() {
			return true, nil
		}
		return false, c.takeOverIfOrphaned(ctx, r)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // it was stopped, and then somebody removed it
	}
	return err
}

// takeOverIfOrphaned makes this client the owner of a container that nobody
// looks after.
func (c *Client) takeOverIfOrphaned(ctx context.Context, rec lifecycle.Container) error {
	alive, err := c.store.Alive(ctx, rec.Owner)
	if err != nil || alive {
		return err
	}
	if err := c.activate(ctx); err != nil {
		return err
	}
	return c.adopt(ctx, rec, c.owner)
}

// Remove deletes the stopped container that ref means (see [Client.Get]), its
// log and its record. One that is not stopped gives [ErrRunning], unless
// [Force] stops it first. Its volumes stay.
func (c *Client) Remove(ctx context.Context, ref string, opts ...StopOption) error {
	var cfg stopConfig
	for _, o := range opts {
		o(&cfg)
	}
	rec, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	if !rec.Finished() {
		if !cfg.force {
			return fmt.Errorf("remove container %s: %w (it is %s): stop it first, or force the removal", rec.Name, ErrRunning, rec.State)
		}
		if err := c.stopRecord(ctx, rec, opts); err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("stop container %s: %w", rec.Name, err)
		}
	}
	err = c.removeRecord(ctx, rec)
	if cfg.force && errors.Is(err, store.ErrNotFound) {
		return nil // it removed itself when it ended
	}
	return err
}

// removeRecord deletes what the runtime has of a finished container, then its
// record, so that a crash in between leaves a record that can be removed again.
func (c *Client) removeRecord(ctx context.Context, rec lifecycle.Container) error {
	rt, err := c.runtimeNamed(rec.Runtime)
	if err != nil {
		return err
	}
	if err := rt.Remove(ctx, rec.ID); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("remove container %s: %w", rec.Name, err)
	}
	for {
		now, err := c.store.Get(ctx, rec.ID)
		if err != nil {
			return err
		}
		if err := c.store.Delete(ctx, rec.ID, now.Revision); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// Wait blocks until the container that ref means (see [Client.Get]) has ended
// for good, by itself or because it was stopped, and returns it then, also one
// that this client ran with [AutoRemove]. It returns [ErrNotFound] when somebody
// removes the container meanwhile.
func (c *Client) Wait(ctx context.Context, ref string) (lifecycle.Container, error) {
	rec, err := c.Get(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		if rec, ok := c.removedRecord(ref); ok {
			return rec, nil
		}
	}
	if err != nil {
		return lifecycle.Container{}, err
	}
	if k := c.keeperOf(rec.ID); k != nil {
		select {
		case <-ctx.Done():
			return lifecycle.Container{}, ctx.Err()
		case <-k.done:
			if rec = k.record(); rec.Finished() {
				return rec, nil
			}
		}
	}
	err = c.follow(ctx, rec.ID, func(r lifecycle.Container) (bool, error) {
		rec = r
		return r.Finished(), nil
	})
	if errors.Is(err, ErrNotFound) {
		if rec, ok := c.removedRecord(rec.ID); ok {
			return rec, nil
		}
	}
	return rec, err
}

// removedRecord returns the last record of a container that this client ran and
// that removed itself.
func (c *Client) removedRecord(ref string) (lifecycle.Container, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.removed.find(ref)
}
