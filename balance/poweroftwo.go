package balance

import (
	"math"
	"math/rand/v2"
	"time"
)

// powerOfTwo draws two eligible members at random and takes the one where a
// request is likely to be answered sooner. Looking at two and not at all of them
// keeps the proxies of several nodes, which do not know of each other's
// requests, from sending all of theirs to the same member (Mitzenmacher, The
// Power of Two Choices in Randomized Load Balancing, 2001). One that warms up yields
// at times to the other.
type powerOfTwo struct{}

func (powerOfTwo) choose(members []*member, _ int, f filter) int {
	n := 0
	for _, m := range members {
		if f.eligible(m) {
			n++
		}
	}
	switch n {
	case 0:
		return -1
	case 1:
		return nthEligible(members, 0, f)
	}
	i, j := rand.IntN(n), rand.IntN(n-1)
	if j >= i {
		j++
	}
	a, b := nthEligible(members, i, f), nthEligible(members, j, f)
	if restA, restB := f.rests(members[a]), f.rests(members[b]); restA != restB {
		if restA {
			return b
		}
		return a
	}
	if members[b].expectedWait(f.now) < members[a].expectedWait(f.now) {
		return b
	}
	return a
}

// nthEligible returns the index of the nth eligible member, from 0.
func nthEligible(members []*member, nth int, f filter) int {
	for i, m := range members {
		if !f.eligible(m) {
			continue
		}
		if nth == 0 {
			return i
		}
		nth--
	}
	return -1
}

// expectedWait is what the next request would wait for its answer, in seconds.
func (m *member) expectedWait(now time.Time) float64 {
	if !m.latency.known {
		// A newcomer is tried at once, but gets no crowd before it has answered.
		if m.active == 0 {
			return 0
		}
		return assumedLatency.Seconds() * float64(m.active+1)
	}
	return m.latency.at(now) * float64(m.active+1)
}

const (
	// latencyDecay is how long it takes until an observation has lost all but
	// 1/e of its weight.
	latencyDecay = 10 * time.Second
	// assumedLatency stands for one that is not known.
	assumedLatency = time.Second
	// maxLatency bounds the doubling after failures.
	maxLatency = time.Minute
)

// latency is a moving average, weighted by age, of the time until an answer. It
// follows peaks at once and comes down slowly: a member that stumbles is avoided
// before many requests are stuck there. While nothing is asked of the member it
// sinks to nothing, so that one who was slow once is tried again. It does not
// while an answer is awaited: who hangs gives no observations, and must not seem
// better for that.
type latency struct {
	seconds float64   // as of stamp
	stamp   time.Time // the last event
	known   bool
	waiting int // requests without an answer so far
}

// at returns the average in seconds.
func (l *latency) at(now time.Time) float64 {
	if l.waiting > 0 {
		return l.seconds
	}
	return l.seconds * l.weight(now)
}

// weight is what is left of the past at a time.
func (l *latency) weight(now time.Time) float64 {
	return math.Exp(-max(now.Sub(l.stamp), 0).Seconds() / latencyDecay.Seconds())
}

// asked notes a request.
func (l *latency) asked(now time.Time) {
	if l.waiting == 0 {
		l.seconds, l.stamp = l.at(now), now
	}
	l.waiting++
}

// answered notes the answer to a request, and the time that it took; 0 where
// that says nothing.
func (l *latency) answered(now time.Time, took time.Duration) {
	s := took.Seconds()
	switch {
	case took <= 0:
	case !l.known || s >= l.seconds:
		l.seconds, l.known = s, true
	default:
		w := l.weight(now)
		l.seconds = l.seconds*w + s*(1-w)
	}
	l.ended(now)
}

// failed notes the end of a request in failure. Failing may be quick, and must
// not draw requests: it doubles the average.
func (l *latency) failed(now time.Time, took time.Duration) {
	worse := 2 * l.seconds
	if !l.known {
		worse = assumedLatency.Seconds()
	}
	l.seconds = min(max(worse, took.Seconds()), maxLatency.Seconds())
	l.known = true
	l.ended(now)
}

// abandoned notes the end of a request whose client left after a time, 0 where
// that says nothing. Long waits count like answers, for else a member that hangs
// would look as quick as it was; short ones tell nothing.
func (l *latency) abandoned(now time.Time, waited time.Duration) {
	if l.known {
		l.seconds = max(l.seconds, waited.Seconds())
	}
	l.ended(now)
}

// ended notes that a request needs no answer any more.
func (l *latency) ended(now time.Time) {
	l.waiting--
	l.stamp = now
}
