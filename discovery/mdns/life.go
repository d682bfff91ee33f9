package mdns

import (
	"math/rand/v2"
	"time"
)

const (
	// goodbyeDelay is how long a record lives on after its goodbye, and after
	// others of its name have been announced with the cache-flush bit, in case
	// that it was said in error: RFC 6762 sections 10.1 and 10.2.
	goodbyeDelay = time.Second
	// maxTTL bounds what an announcement may ask for: the longest TTL that RFC
	// 6762 section 10 recommends.
	maxTTL = 75 * time.Minute
	// refreshes is how many times a record that is about to expire is asked
	// for: at 80, 85, 90 and 95 % of its life, RFC 6762 section 5.2.
	refreshes = 4
	// maxJitter is added to these times, so that not everybody asks at once.
	maxJitter = 0.02
)

// life is the time that a record has in the cache. The zero life is over.
type life struct {
	ttl              time.Duration
	created, expires time.Time
	// jitter is a part of the ttl, up to maxJitter.
	jitter float64
	// asked is how many refreshes were sent.
	asked int
}

// jitter returns what the records of one packet add to their refresh times.
// They share it, so that one question can refresh them together.
func jitter() float64 { return rand.Float64() * maxJitter }

func newLife(now time.Time, ttl uint32, jitter float64) life {
	d := min(time.Duration(ttl)*time.Second, maxTTL)
	return life{ttl: d, created: now, expires: now.Add(d), jitter: jitter}
}

func (l life) alive(now time.Time) bool { return now.Before(l.expires) }

// leave makes the record expire after goodbyeDelay, unless it does before.
func (l *life) leave(now time.Time) {
	if at := now.Add(goodbyeDelay); at.Before(l.expires) {
		l.expires = at
	}
	l.asked = refreshes
}

// leaving is true between a goodbye and the end.
func (l life) leaving() bool { return l.asked == refreshes && l.expires.Before(l.created.Add(l.ttl)) }

// refreshAt is when to ask for the record again, and zero for never.
func (l life) refreshAt() time.Time {
	if l.asked >= refreshes {
		return time.Time{}
	}
	part := 0.80 + 0.05*float64(l.asked) + l.jitter
	return l.created.Add(time.Duration(float64(l.ttl) * part))
}

// due reports whether to ask for the record now, and counts that as done.
func (l *life) due(now time.Time) bool {
	at := l.refreshAt()
	if at.IsZero() || now.Before(at) {
		return false
	}
	for l.asked < refreshes && !now.Before(l.refreshAt()) {
		l.asked++
	}
	return true
}

// next is when something happens to the record: it is refreshed, if that is
// wanted, or expires.
func (l life) next(refresh bool) time.Time {
	if at := l.refreshAt(); refresh && !at.IsZero() && at.Before(l.expires) {
		return at
	}
	return l.expires
}

// fresh reports whether more than half of the life is left: what is known so
// well is listed as a known answer (RFC 6762 section 7.1).
func (l life) fresh(now time.Time) bool {
	return l.alive(now) && l.expires.Sub(now) > l.ttl/2 && !l.leaving()
}

// earliest returns the earlier of two times, of which zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
