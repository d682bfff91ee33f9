package watch

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// coalescer collects what is dirty and sends it as batches. Its methods never
// wait for a receiver.
type coalescer struct {
	quiet, maxDelay time.Duration
	maxDirs         int
	out             chan Batch
	// wake holds a token once something is dirty.
	wake chan struct{}

	mu          sync.Mutex
	dirs        map[string]struct{}
	bytes       int // of the names in dirs
	everything  bool
	reason      error
	unseen      bool
	batches     int       // that were taken
	first, last time.Time // of what is collected
}

func newCoalescer(c config) *coalescer {
	return &coalescer{
		quiet: c.quiet, maxDelay: c.maxDelay, maxDirs: c.maxDirs,
		out: make(chan Batch), wake: make(chan struct{}, 1), dirs: make(map[string]struct{}),
	}
}

// dirty marks one directory.
func (c *coalescer) dirty(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.touch()
	if c.everything {
		return
	}
	if _, ok := c.dirs[dir]; ok {
		return
	}
	if len(c.dirs) >= c.maxDirs || c.bytes+len(dir) > c.maxDirs*bytesPerDir {
		c.forget(ErrTooMany)
		return
	}
	c.dirs[dir] = struct{}{}
	c.bytes += len(dir)
}

// passed notes that something came and went that nobody can have seen.
func (c *coalescer) passed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.touch()
	c.unseen = true
}

// taken returns how many batches were.
func (c *coalescer) taken() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.batches
}

// all marks everything. The last reason counts: it says how things stand.
func (c *coalescer) all(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.touch()
	c.forget(reason)
}

// forget replaces what is collected by everything.
func (c *coalescer) forget(reason error) {
	c.everything, c.reason, c.bytes = true, reason, 0
	c.dirs = make(map[string]struct{})
}

func (c *coalescer) touch() {
	c.last = time.Now()
	if c.first.IsZero() {
		c.first = c.last
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// run sends batches until ctx ends, and closes the channel.
func (c *coalescer) run(ctx context.Context) {
	defer close(c.out)
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		for wait := c.wait(); wait > 0; wait = c.wait() {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
		}
		select {
		case c.out <- c.take():
		case <-ctx.Done():
			return
		}
	}
}

// wait returns how much longer what is collected should wait for more.
func (c *coalescer) wait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(time.Until(c.last.Add(c.quiet)), time.Until(c.first.Add(c.maxDelay)))
}

// take returns what is collected and begins anew.
func (c *coalescer) take() Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := Batch{All: c.everything, Reason: c.reason}
	if !b.All {
		b.Dirs, b.Passed = slices.Sorted(maps.Keys(c.dirs)), c.unseen
	}
	c.batches++
	c.everything, c.reason, c.unseen, c.bytes, c.first = false, nil, false, 0, time.Time{}
	c.dirs = make(map[string]struct{})
	return b
}
