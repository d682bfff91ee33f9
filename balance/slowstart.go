package balance

import (
	"math/rand/v2"
	"time"
)

// leastWarmth is the part of its share with which a member begins.
const leastWarmth = 0.1

// warmth is what part of its share a member gets, from leastWarmth to 1: it rises
// evenly for the time slow after the member joined or came back.
func (m *member) warmth(now time.Time, slow time.Duration) float64 {
	passed := now.Sub(m.warmFrom)
	if passed >= slow {
		return 1
	}
	return leastWarmth + (1-leastWarmth)*max(passed.Seconds(), 0)/slow.Seconds()
}

// follow notes whether a member went out of rotation or came back: its warmth begins
// anew when it is back, and who waits in the queue may find room there. It reports true
// for a change. The lock is held.
func (p *pool) follow(m *member, now time.Time) bool {
	was, is := !m.out, m.health.healthy(now)
	m.out = !is
	switch {
	case !is && m.health.down:
		m.warmFrom = time.Time{} // not known yet
	case !is:
		m.warmFrom = m.health.until // of whose coming nobody tells
	case !was && (m.warmFrom.IsZero() || m.warmFrom.After(now)):
		m.warmFrom = now
	}
	if !was && is {
		p.wake(len(p.queue))
	}
	return was != is
}

// warmed returns a filter that knows the greatest warmth of those that it lets
// through: what counts is warmth relative to that, so that where all are new all get
// their full share. The lock is held.
func (p *pool) warmed(f filter) filter {
	f.slow = 0 // as long as nobody needs more
	if p.slow == 0 {
		return f
	}
	for _, m := range p.members {
		if !f.eligible(m) {
			continue
		}
		w := m.warmth(f.now, p.slow)
		f.warmest = max(f.warmest, w)
		if w < 1 {
			f.slow = p.slow
		}
	}
	return f
}

// part is what part of its share an eligible member gets now, above 0 and up to 1,
// which at least one of them gets.
func (f filter) part(m *member) float64 {
	if f.slow == 0 {
		return 1
	}
	return m.warmth(f.now, f.slow) / f.warmest
}

// rests reports whether an eligible member is to sit out this choice, by lot. At
// least one does not.
func (f filter) rests(m *member) bool {
	part := f.part(m)
	return part < 1 && rand.Float64() >= part
}
