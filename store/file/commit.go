package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// op is one Put or Delete on its way into the file.
type op struct {
	// apply does the operation to a snapshot that is being made.
	apply func(*snapshot) error
	// err is the outcome, to be read after done is closed.
	err  error
	done chan struct{}
}

// committer does operations together. The first one that comes starts a
// goroutine, which does all that come until none is left; the goroutine ends
// then, and close waits for it.
type committer struct {
	// write does operations, and sets the err of each. It claims them after it
	// has the lock, so that it gets those too that came while it waited.
	write func(ctx context.Context, needed func() bool, claim func() []*op) error

	// lockPath is for messages.
	lockPath string

	ctx  context.Context // ends at close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	running bool
	queue   []*op
}

func newCommitter(lockPath string, write func(context.Context, func() bool, func() []*op) error) *committer {
	c := &committer{lockPath: lockPath, write: write}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// do has an operation done and returns its outcome. The end of ctx ends it as
// long as its turn has not come; from then on the true outcome is awaited.
func (c *committer) do(ctx context.Context, apply func(*snapshot) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := &op{apply: apply, done: make(chan struct{})}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return store.ErrClosed
	}
	c.queue = append(c.queue, o)
	if !c.running {
		c.running = true
		c.wg.Go(c.run)
	}
	c.mu.Unlock()

	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	if c.withdraw(o) {
		return fmt.Errorf("waiting for the lock %s: %w", c.lockPath, ctx.Err())
	}
	<-o.done
	return o.err
}

// withdraw takes an operation out of the queue, unless its turn has come.
func (c *committer) withdraw(o *op) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.queue, o)
	if i < 0 {
		return false
	}
	c.queue = slices.Delete(c.queue, i, i+1)
	return true
}

func (c *committer) claim() []*op {
	c.mu.Lock()
	defer c.mu.Unlock()
	ops := c.queue
	c.queue = nil
	return ops
}

func (c *committer) needed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) > 0
}

func (c *committer) run() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		var claimed []*op
		err := c.write(c.ctx, c.needed, func() []*op {
			claimed = c.claim()
			return claimed
		})
		if err != nil && !errors.Is(err, errNotNeeded) {
			// The lock could not be had: nothing was done.
			if c.ctx.Err() != nil {
				err = store.ErrClosed
			}
			claimed = c.claim()
			for _, o := range claimed {
				o.err = err
			}
		}
		for _, o := range claimed {
			close(o.done)
		}
	}
}

// close refuses operations that have not begun and waits for those that have.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.wg.Wait()
}

// write is the committer's: one turn at the state file.
func (s *Store) write(ctx context.Context, needed func() bool, claim func() []*op) (err error) {
	lock, err := lockFile(ctx, s.lockPath, needed)
	if err != nil {
		return err
	}
	defer func() {
		if uerr := lock.Unlock(); uerr != nil {
			s.log.Warn("unlock the state", "path", s.lockPath, "error", uerr)
		}
	}()
	ops := claim()
	base, err := s.cache.load()
	if err != nil {
		for _, o := range ops {
			o.err = err
		}
		return nil
	}
	s.commit(base, ops)
	return nil
}

// commit does ops in order, on top of base, and writes the outcome once.
func (s *Store) commit(base *snapshot, ops []*op) {
	next := &snapshot{table: base.table.Clone(), encoded: maps.Clone(base.encoded)}
	next.table.Skip(s.cache.seen())
	first := len(ops) // the first that changes something
	for i, o := range ops {
		if o.err = o.apply(next); o.err == nil {
			first = min(first, i)
		}
	}
	if first == len(ops) {
		return
	}
	info, err := writeFile(s.disk, s.statePath, func(w io.Writer) error { return encode(w, next) })
	if info != nil {
		s.cache.wrote(next, info)
		s.changes.Tick()
	}
	if err == nil {
		return
	}
	// Those before the first were judged by what is stored, but the verdict on
	// all others rests on changes that were not made, or not for sure.
	for _, o := range ops[first:] {
		o.err = err
	}
}

// putOp returns an operation that puts a canonical record, and stores what
// became of it in stored.
func putOp(c lifecycle.Container, stored *lifecycle.Container) func(*snapshot) error {
	return func(s *snapshot) (err error) {
		if *stored, err = s.table.Put(c); err == nil {
			delete(s.encoded, c.ID)
		}
		return err
	}
}

func deleteOp(id string, revision uint64) func(*snapshot) error {
	return func(s *snapshot) error {
		err := s.table.Delete(id, revision)
		if err == nil {
			delete(s.encoded, id)
		}
		return err
	}
}
