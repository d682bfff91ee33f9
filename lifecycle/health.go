package lifecycle

import (
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// The pace of probes while a container starts: fast at first, because most
// programs are up in a moment and somebody waits, then slower.
const (
	startProbeFirst = 2 * time.Millisecond
	startProbeMax   = time.Second
)

// Tracker turns the results of probes into a health, with hysteresis: as many
// failures in a row as the check's retries make a healthy container unhealthy,
// and one success makes it healthy. A container that is still starting has its
// start period and then the time of as many intervals to succeed once.
//
// A Tracker is not safe for concurrent use.
type Tracker struct {
	check     bunfile.Healthcheck
	startedAt time.Time
	health    Health
	failures  int
	pace      time.Duration
}

// NewTracker returns a Tracker for a container that started at startedAt. The
// zero fields of check have their defaults.
func NewTracker(check bunfile.Healthcheck, startedAt time.Time) *Tracker {
	if check.Interval <= 0 {
		check.Interval = bunfile.Duration(bunfile.DefaultHealthInterval)
	}
	if check.Retries <= 0 {
		check.Retries = bunfile.DefaultHealthRetries
	}
	return &Tracker{check: check, startedAt: startedAt, health: HealthStarting, pace: startProbeFirst}
}

// Resume makes the tracker go on from a health that an earlier supervisor saw.
func (t *Tracker) Resume(h Health) {
	if h == Healthy || h == Unhealthy {
		t.health = h
	}
}

// Health returns the health after the probes so far.
func (t *Tracker) Health() Health { return t.health }

// Observe takes the result of a probe that ended at time now, and returns the
// health after it.
func (t *Tracker) Observe(ok bool, now time.Time) Health {
	if ok {
		t.health, t.failures = Healthy, 0
		return t.health
	}
	t.failures++
	switch t.health {
	case HealthStarting:
		if now.Sub(t.startedAt) >= t.startDeadline() {
			t.health = Unhealthy
		}
	case Healthy:
		inStart := now.Sub(t.startedAt) < t.check.StartPeriod.Std()
		if t.failures >= t.check.Retries && !inStart {
			t.health = Unhealthy
		}
	}
	return t.health
}

// startDeadline is how long a start may take.
func (t *Tracker) startDeadline() time.Duration {
	return t.check.StartPeriod.Std() + time.Duration(t.check.Retries)*t.check.Interval.Std()
}

// Delay returns how long to wait before the next probe.
func (t *Tracker) Delay() time.Duration {
	if t.health != HealthStarting {
		return t.check.Interval.Std()
	}
	d := min(t.pace, t.check.Interval.Std())
	t.pace = min(t.pace*2, startProbeMax)
	return d
}
