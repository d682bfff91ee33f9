package main

import (
	"fmt"
	"time"
)

// meter finds out how fast something goes on, from what was seen of it in the last
// ten seconds or so. The zero value has seen nothing.
type meter struct{ seen []sample }

// sample is how much was done at a moment.
type sample struct {
	at   time.Time
	done int64
}

const (
	// meterWindow is how long what was seen counts.
	meterWindow = 10 * time.Second
	// meterFirst is how long something is looked at before its rate is told.
	meterFirst = time.Second
)

// note takes what is done by now.
func (m *meter) note(now time.Time, done int64) {
	m.seen = append(m.seen, sample{now, done})
	for len(m.seen) > 2 && now.Sub(m.seen[1].at) >= meterWindow {
		m.seen = m.seen[1:]
	}
}

// rate returns how much is done per second. It is false where that is not known
// yet. What stands still becomes slower with the time.
func (m *meter) rate(now time.Time) (perSecond float64, known bool) {
	if len(m.seen) == 0 {
		return 0, false
	}
	first, last := m.seen[0], m.seen[len(m.seen)-1]
	passed := now.Sub(first.at)
	if passed < meterFirst || last.done < first.done {
		return 0, false
	}
	return float64(last.done-first.done) / passed.Seconds(), true
}

// words says how fast bytes come, and how long the rest of them takes; nothing where
// that is not known.
func (m *meter) words(now time.Time, total int64) string {
	rate, known := m.rate(now)
	if !known {
		return ""
	}
	words := fmt.Sprintf(", %s/s", size(uint64(rate)))
	rest := float64(total - m.seen[len(m.seen)-1].done)
	if left := rest / max(rate, 1); rest > 0 && left < (100*24*time.Hour).Seconds() {
		words += fmt.Sprintf(", %s left", time.Duration(left*float64(time.Second)).Round(time.Second))
	}
	return words
}
