package budgie

import (
	"context"
	"errors"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

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
	promoted := rec.Term != k.rec.Term
	k.rec = rec
	if rec.Ready && !isClosed(k.ready) {
		close(k.ready)
	}
	copies := k.copies
	k.mu.Unlock()
	if promoted && copies != nil {
		copies.choose()
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

// unwanted reports whether somebody wants the container to end.
func (k *keeper) unwanted() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.endReason != "" || k.rec.Desired == lifecycle.WantStopped
}
