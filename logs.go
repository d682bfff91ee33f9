package budgie

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/store"
)

// Logs yields the log of the container that ref means (see [Client.Get]),
// oldest entry first. An error ends the sequence. With Follow it goes on, also
// over restarts, until the container has ended for good or ctx ends.
func (c *Client) Logs(ctx context.Context, ref string, opts runtime.LogOptions) iter.Seq2[runtime.LogEntry, error] {
	return func(yield func(runtime.LogEntry, error) bool) {
		rec, err := c.Get(ctx, ref)
		if err == nil {
			err = c.yieldLogs(ctx, rec, opts, yield)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, errStopped) {
			yield(runtime.LogEntry{}, err)
		}
	}
}

// errStopped: the consumer of the log wants no more of it.
var errStopped = errors.New("consumer stopped")

// yieldLogs yields the logs of one run after the other.
func (c *Client) yieldLogs(ctx context.Context, rec lifecycle.Container, opts runtime.LogOptions, yield func(runtime.LogEntry, error) bool) error {
	logger, err := ability[runtime.Logger](c, rec)
	if err != nil {
		return fmt.Errorf("logs of container %s: %w", rec.Name, err)
	}
	var last time.Time
	if opts.Tail < 0 {
		last = time.Now()
	}
	for {
		if opts.Follow && (rec.State == lifecycle.Creating || rec.State == lifecycle.Created) {
			// There is nothing to follow before the container runs, and what
			// never runs has no end either.
			if rec, err = c.nextRun(ctx, rec); err != nil {
				break
			}
		}
		follow := opts.Follow && !rec.Finished()
		read := runtime.LogOptions{Follow: follow, Tail: opts.Tail}
		if last, err = readAfter(ctx, logger, rec.ID, read, last, func(e runtime.LogEntry) error {
			if !yield(e, nil) {
				return errStopped
			}
			return nil
		}); err != nil || !follow || ctx.Err() != nil {
			return err
		}
		if rec, err = c.nextRun(ctx, rec); err != nil {
			break
		}
		opts.Tail = 0
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil // it was removed
	}
	return err
}

// readAfter hands over a container's entries that are later than after, or all
// where that is zero, and returns the time of the latest. A run's entries are
// all later than those of the run before it, so reading a log from its start
// again repeats nothing. What was not created, or is removed, has no entries.
func readAfter(ctx context.Context, logger runtime.Logger, id string, opts runtime.LogOptions, after time.Time, give func(runtime.LogEntry) error) (time.Time, error) {
	last := after
	for entry, err := range logger.Logs(ctx, id, opts) {
		switch {
		case errors.Is(err, runtime.ErrNotFound):
			return last, nil
		case err != nil:
			return last, err
		case !after.IsZero() && !entry.Time.After(after):
			continue
		}
		last = later(last, entry.Time)
		if err := give(entry); err != nil {
			return last, err
		}
	}
	return last, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// nextRun waits until a container that has just ended runs again, or has ended
// for good.
func (c *Client) nextRun(ctx context.Context, rec lifecycle.Container) (lifecycle.Container, error) {
	started := rec.StartedAt
	err := c.follow(ctx, rec.ID, func(r lifecycle.Container) (bool, error) {
		rec = r
		return r.Finished() || r.StartedAt.After(started), nil
	})
	return rec, err
}

// startOutput begins to hand the container's log to onLog, if there is one: what is
// later than after.
func (k *keeper) startOutput(onLog func(lifecycle.Container, runtime.LogEntry), after time.Time) {
	logger, ok := k.rt.(runtime.Logger)
	if onLog == nil || !ok {
		return
	}
	k.output = make(chan struct{})
	ctx, leave := context.WithCancel(k.c.life)
	k.leaveOutput = leave
	entries := make(chan runtime.LogEntry)
	k.c.wg.Go(func() {
		defer close(entries)
		defer leave()
		if err := k.readLog(ctx, logger, entries, after); err != nil && ctx.Err() == nil {
			k.log.Warn("cannot read the container's log", "error", err)
		}
	})
	// onLog is the user's code and may block for ever: it has a goroutine that
	// holds nothing else up.
	k.c.outputs.Go(func() {
		defer close(k.output)
		for entry := range entries {
			onLog(k.record(), entry)
		}
	})
}

// readLog sends every entry of all runs of the container that is later than last, until
// the client is killed, or the container is another process's.
func (k *keeper) readLog(ctx context.Context, logger runtime.Logger, entries chan<- runtime.LogEntry, last time.Time) error {
	for over := false; !over; {
		select {
		case <-k.started:
		case <-k.over:
			over = true
		case <-ctx.Done():
			return nil
		}
		// A follow ends with the run that has begun. What never began to run has
		// nothing to follow.
		var err error
		last, err = readAfter(ctx, logger, k.id, runtime.LogOptions{Follow: !over}, last, func(e runtime.LogEntry) error {
			select {
			case entries <- e:
				return nil
			case <-k.c.killed:
				return errStopped
			}
		})
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
