package mdns

import (
	"net/netip"
	"time"
)

const (
	// sourceRate and sourceBurst bound the packets that one address can make
	// this process look at: per second, and at once.
	sourceRate  = 500
	sourceBurst = 1000
	// maxSources is how many addresses are told apart.
	maxSources = 1024
)

// limiter counts packets by source. The zero limiter is ready.
type limiter struct {
	buckets map[netip.Addr]*bucket
	// dropped is when drop last looked through them.
	dropped time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
}

// allow reports whether another packet from a source may be looked at. When
// more sources are there than can be told apart, those that are not known share
// one bucket.
func (l *limiter) allow(now time.Time, source netip.Addr) bool {
	b := l.buckets[source]
	if b == nil && len(l.buckets) >= maxSources {
		l.drop(now)
	}
	if b == nil && len(l.buckets) >= maxSources {
		source = netip.Addr{}
		b = l.buckets[source]
	}
	if b == nil {
		if l.buckets == nil {
			l.buckets = make(map[netip.Addr]*bucket)
		}
		b = &bucket{tokens: sourceBurst, at: now}
		l.buckets[source] = b
	}
	b.tokens = min(sourceBurst, b.tokens+sourceRate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// drop forgets the sources whose buckets are full again, once a second.
func (l *limiter) drop(now time.Time) {
	if now.Sub(l.dropped) < time.Second {
		return
	}
	l.dropped = now
	for a, b := range l.buckets {
		if b.tokens+sourceRate*now.Sub(b.at).Seconds() >= sourceBurst {
			delete(l.buckets, a)
		}
	}
}
