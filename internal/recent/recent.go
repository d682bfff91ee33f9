// Package recent counts what happened lately: how often, how much of it failed, and
// how long it took.
package recent

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

// Window is how far back a [Meter] looks, give or take a slot.
const Window = 10 * time.Second

// The window moves on by slots.
const (
	slots    = 10
	slotTime = Window / slots
)

// Times are counted in buckets that are never wider than a quarter of their lower
// bound: in units of 64 µs, one bucket each for 0 to 3, then four for every doubling.
const (
	unit    = 64 * time.Microsecond
	perStep = 4
	buckets = perStep * 24 // up to some 9 minutes
)

// Meter counts. The zero value is ready. All methods may be called concurrently.
type Meter struct {
	mu    sync.Mutex
	began time.Time
	now   int64 // number of the slot that is being filled, since began
	ring  [slots + 1]slot
	total Count
}

// Count is how much there was.
type Count struct {
	// Requests in all, Failures of them, and Shed of those.
	Requests, Failures, Shed uint64
}

type slot struct {
	Count
	times [buckets]uint32
}

// Reading is what a meter says.
type Reading struct {
	// Total is since the beginning.
	Total Count
	// Rate and Failures are per second, over the last [Window], or since the
	// beginning where that is less.
	Rate, Failures float64
	// P50 and P99 are the median and the 99th percentile of the times in the window,
	// up to a quarter too high; 0 where there is none.
	P50, P99 time.Duration
}

// Add counts something that has ended now. took is how long it took, 0 where that
// is not known.
func (m *Meter) Add(took time.Duration, failed, shed bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(now)
	s := &m.ring[m.now%int64(len(m.ring))]
	for _, c := range []*Count{&s.Count, &m.total} {
		c.Requests++
		if failed {
			c.Failures++
		}
		if shed {
			c.Shed++
		}
	}
	if took > 0 {
		s.times[bucketOf(took)]++
	}
}

// Read returns what there was until now.
func (m *Meter) Read() Reading {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(now)
	r := Reading{Total: m.total}
	var sum slot
	for i := range m.ring {
		s := &m.ring[i]
		sum.Requests += s.Requests
		sum.Failures += s.Failures
		for b, n := range s.times {
			sum.times[b] += n
		}
	}
	// The slots before this one are full, but for those before the beginning.
	over := min(now.Sub(m.began), Window+now.Sub(m.began)%slotTime)
	if over = max(over, slotTime); sum.Requests > 0 {
		r.Rate, r.Failures = float64(sum.Requests)/over.Seconds(), float64(sum.Failures)/over.Seconds()
	}
	r.P50, r.P99 = sum.percentile(.5), sum.percentile(.99)
	return r
}

// advance empties the slots that time has moved into. The lock is held.
func (m *Meter) advance(now time.Time) {
	if m.began.IsZero() {
		m.began = now
	}
	n := int64(now.Sub(m.began) / slotTime)
	for i := max(m.now+1, n-int64(len(m.ring))+1); i <= n; i++ {
		m.ring[i%int64(len(m.ring))] = slot{}
	}
	m.now = max(m.now, n)
}

// percentile returns the upper bound of the bucket that part of the times are not
// beyond.
func (s *slot) percentile(part float64) time.Duration {
	var all uint64
	for _, n := range s.times {
		all += uint64(n)
	}
	if all == 0 {
		return 0
	}
	rank := uint64(math.Ceil(part * float64(all)))
	var seen uint64
	for b, n := range s.times {
		if seen += uint64(n); seen >= rank {
			return upper(b)
		}
	}
	return upper(buckets - 1)
}

// bucketOf returns the index of a time's bucket.
func bucketOf(d time.Duration) int {
	n := uint64(d / unit)
	if n < perStep {
		return int(n)
	}
	step := bits.Len64(n) - 3 // n is from 4·2^step to 8·2^step
	return min(perStep*(step+1)+int(n>>step)-perStep, buckets-1)
}

// upper returns the time at which a bucket ends.
func upper(b int) time.Duration {
	if b < perStep {
		return time.Duration(b+1) * unit
	}
	step := b/perStep - 1
	return time.Duration(perStep+b%perStep+1) << step * unit
}
