//go:build linux

package containerd

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budgiehq/budgie/internal/stall"
	"github.com/budgiehq/budgie/runtime"
)

const (
	// pieceSize is how much is read and written at a time.
	pieceSize = 1 << 20
	// rangeSize is the most that a source is asked for at a time, where there are
	// others that can read another range of the same blob meanwhile.
	rangeSize = 2 << 20
	// rangesAhead is how many ranges per source may be under way or wait for the
	// ones before them, and mostAhead the most of one blob that is in memory.
	rangesAhead = 2
	mostAhead   = 16 << 20
	// slowFactor is how many times longer than another source would need a
	// source may take, before that one takes over the range that all wait for;
	// leastPatience is how long it may take at least.
	slowFactor    = 3
	leastPatience = time.Second
)

// claim is a range of a blob that a source is to deliver. All of it is guarded
// by the stripe's lock.
type claim struct {
	// next is the first byte that is not there yet, end the one after the last.
	next, end int64
	// seen is how many bytes its owner has brought; it has no need of the lock.
	seen   atomic.Int64
	since  time.Time
	owner  *supply
	cancel context.CancelFunc
	// revoked is set when another one has to go on.
	revoked bool
	// tried are those that had it.
	tried []*supply
}

// piece is a part of a blob that has arrived.
type piece struct {
	offset int64
	data   []byte
	from   *supply
}

// stripe reads one blob from several sources at the same time, each a range.
type stripe struct {
	blob  runtime.Descriptor
	guard stall.Guard
	// ahead is how far beyond what is written anything is read.
	ahead int64
	// sources is how many there are. With one, its range is all that is left.
	sources int64

	mu      sync.Mutex
	changed chan struct{} // closed with every change
	// written is the first byte that is not written yet, unclaimed the first one
	// that nobody was asked for.
	written, unclaimed int64
	active             []*claim
	// dropped are ranges that their sources did not deliver.
	dropped []*claim
	arrived map[int64]piece
	workers int
	// used are the sources of what was written.
	used []*supply
	free [][]byte
}

// readStriped writes what is missing of a blob from offset on, as far as the
// sources bring it, and returns the offset that it came to and who brought
// something. Its error is that of write, or the end of ctx.
func readStriped(ctx context.Context, guard stall.Guard, blob runtime.Descriptor, offset int64, sources []*supply, write func([]byte) error) (int64, []*supply, error) {
	s := &stripe{
		blob: blob, guard: guard, ahead: min(rangesAhead*rangeSize*int64(len(sources)), mostAhead), sources: int64(len(sources)),
		changed: make(chan struct{}), written: offset, unclaimed: offset, arrived: map[int64]piece{}, workers: len(sources),
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, source := range sources {
		wg.Go(func() {
			source.enlist()
			defer source.leave()
			defer s.leave()
			for s.work(ctx, source) {
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	for {
		p, ok := s.take(ctx)
		if !ok {
			return s.written, s.used, context.Cause(ctx)
		}
		if err := write(p.data); err != nil {
			return s.written, s.used, err
		}
		s.wrote(p)
	}
}

// notify tells all who wait. The caller holds the lock.
func (s *stripe) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait waits for a change, at most until a time that is not zero. The caller
// holds the lock, which is free meanwhile.
func (s *stripe) wait(ctx context.Context, until time.Time) {
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	var expired <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-changed:
	case <-expired:
	case <-ctx.Done():
	}
}

// take waits for the next piece to write, until there is no more.
func (s *stripe) take(ctx context.Context) (piece, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if p, ok := s.arrived[s.written]; ok {
			return p, ctx.Err() == nil
		}
		if s.written >= s.blob.Size || s.workers == 0 || ctx.Err() != nil {
			return piece{}, false
		}
		s.wait(ctx, time.Time{})
	}
}

func (s *stripe) wrote(p piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.arrived, p.offset)
	s.written += int64(len(p.data))
	s.free = append(s.free, p.data[:cap(p.data)])
	if !slices.Contains(s.used, p.from) {
		s.used = append(s.used, p.from)
	}
	s.notify()
}

func (s *stripe) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers--
	s.notify()
}

// work has a source deliver one range. It reports false when there is nothing
// left for that source to do.
func (s *stripe) work(ctx context.Context, source *supply) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := s.claim(ctx, cancel, source)
	if c == nil {
		return false
	}
	began := time.Now()
	n, err := s.deliver(ctx, source, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = slices.DeleteFunc(s.active, func(a *claim) bool { return a == c })
	if c.next < c.end {
		s.dropped = append(s.dropped, c)
	}
	s.notify()
	switch {
	case c.revoked:
		return !source.overtaken(n, time.Since(began))
	case ctx.Err() != nil:
		return false
	}
	return source.delivered(s.blob.Digest, n, time.Since(began), err)
}

// claim waits for a range that the source is to deliver, nil if there will be
// none.
func (s *stripe) claim(ctx context.Context, cancel context.CancelFunc, source *supply) *claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil && s.written < s.blob.Size && source.usable(s.blob.Digest) {
		if c := s.choose(source); c != nil {
			c.since, c.owner, c.cancel, c.revoked = time.Now(), source, cancel, false
			c.seen.Store(0)
			c.tried = append(c.tried, source)
			s.active = append(s.active, c)
			return c
		}
		s.wait(ctx, s.takeOver(source))
	}
	return nil
}

// choose returns a range that is free to be read, nil if there is none now.
func (s *stripe) choose(source *supply) *claim {
	// The first that was dropped may well be the one that all wait for.
	var first *claim
	for _, c := range s.dropped {
		// One that was too slow for it does not get it back, while there are others.
		back := c.revoked && slices.Contains(c.tried, source) && len(c.tried) < s.workers
		if !back && (first == nil || c.next < first.next) {
			first = c
		}
	}
	if first != nil {
		s.dropped = slices.DeleteFunc(s.dropped, func(c *claim) bool { return c == first })
		return first
	}
	rest := s.blob.Size - s.unclaimed
	// Ranges get smaller towards the end, so that all sources end together.
	size := min(max(rest/(2*s.sources), pieceSize), rangeSize, rest)
	if s.sources == 1 {
		size = rest
	}
	end := s.unclaimed + size
	if rest <= 0 || s.sources > 1 && end > s.written+s.ahead {
		return nil
	}
	c := &claim{next: s.unclaimed, end: end}
	s.unclaimed = end
	return c
}

// takeOver takes the range that all wait for from a source that is much slower
// than this one, which has nothing else to do. It returns when to look again.
func (s *stripe) takeOver(source *supply) time.Time {
	var head *claim
	for _, c := range s.active {
		if head == nil || c.next < head.next {
			head = c
		}
	}
	if _, writing := s.arrived[s.written]; head == nil || writing || head.revoked || slices.Contains(head.tried, source) {
		return time.Time{}
	}
	patience, speed := leastPatience, source.speed()
	switch {
	case speed > 0:
		patience = max(patience, slowFactor*time.Duration(float64(head.end-head.next)/speed*float64(time.Second)))
	case head.seen.Load() > 0:
		return time.Time{} // nobody knows whether this one is any faster
	}
	due := head.since.Add(patience)
	if time.Now().Before(due) {
		return due
	}
	head.revoked = true
	head.cancel()
	return time.Time{}
}

// deliver reads a range, and returns how much it brought.
func (s *stripe) deliver(ctx context.Context, source *supply, c *claim) (n int64, _ error) {
	r, err := s.guard.Open(ctx, source.Name(), func(ctx context.Context) (io.ReadCloser, error) {
		if ranged, ok := source.BlobSource.(runtime.RangeSource); ok {
			return ranged.OpenRange(ctx, s.blob, c.next, c.end-c.next)
		}
		return source.Open(ctx, s.blob, c.next)
	})
	if err != nil {
		return 0, err
	}
	// One that does not heed its context is to end, too.
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer func() {
		if stop() {
			r.Close()
		}
	}()
	for c.next < c.end {
		buf := s.buffer(ctx, c)
		if buf == nil {
			return n, context.Cause(ctx)
		}
		got, err := io.ReadFull(seeing{r, c}, buf)
		s.arrive(piece{c.next, buf[:got], source}, c)
		n += int64(got)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // there is more to come
			}
			return n, err
		}
	}
	return n, nil
}

// seeing counts what is read for a claim.
type seeing struct {
	io.Reader
	c *claim
}

// Read implements io.Reader.
func (r seeing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.c.seen.Add(int64(n))
	return n, err
}

// buffer waits until there is room for the next piece, nil at the end of ctx.
func (s *stripe) buffer(ctx context.Context, c *claim) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := min(pieceSize, c.end-c.next)
	for c.next+size > s.written+s.ahead {
		if ctx.Err() != nil {
			return nil
		}
		s.wait(ctx, time.Time{})
	}
	if last := len(s.free) - 1; last >= 0 && int64(cap(s.free[last])) >= size {
		buf := s.free[last]
		s.free = s.free[:last]
		return buf[:size]
	}
	return make([]byte, size)
}

// arrive takes note of a piece that is there.
func (s *stripe) arrive(p piece, c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(p.data) == 0 {
		return
	}
	s.arrived[p.offset] = p
	c.next += int64(len(p.data))
	s.notify()
}
