package balance

import "time"

// Passive health: how traffic takes a backend out of rotation, and for how long.
const (
	trafficFall = 3
	minEjection = time.Second
	maxEjection = 30 * time.Second
)

// health is what speaks for and against a member. It is a pure state machine:
// time comes in with the events. Two things can take a member out, and each has
// its own way back: probes (down) and traffic (until).
type health struct {
	rise, fall int      // thresholds of probes; at least 1
	probes     evidence // what they look for

	good, bad int  // successful and failed probes in a row
	down      bool // probes say so

	failed    int       // failed requests in a row
	ejections int       // without a served request between them
	ejected   time.Time // the beginning of the last ejection
	until     time.Time // its end
	goodSince int       // successful probes in a row since it began
	evidence  evidence  // what the last ejection was for
	lifted    bool      // probes ended one, and no request was served since
	refuted   bool      // it came to another ejection then
}

// evidence is what a failure, or a probe, tells of a member: a greater one
// includes the lesser ones.
type evidence int

const (
	byConnection evidence = iota // it does (not) accept connections
	byAnswer                     // it does (not) answer
)

func newHealth(c *Check) health {
	h := health{rise: 1, fall: 1}
	if c != nil {
		h.rise, h.fall = c.Rise, c.Fall
		if c.Path != "" {
			h.probes = byAnswer
		}
	}
	return h
}

func (h *health) healthy(now time.Time) bool {
	return !h.down && !now.Before(h.until)
}

func (h *health) probeSucceeded() {
	h.good, h.goodSince, h.bad = h.good+1, h.goodSince+1, 0
	if h.good >= h.rise {
		h.down = false
	}
	if h.goodSince >= h.rise && !h.until.IsZero() && h.probes >= h.evidence && !h.refuted {
		h.until, h.lifted = time.Time{}, true
	}
}

func (h *health) probeFailed() {
	h.good, h.goodSince, h.bad = 0, 0, h.bad+1
	h.lifted, h.refuted = false, false // these probes do see something
	if h.bad >= h.fall {
		h.down = true
	}
}

// served notes a request that was answered. It lifts an ejection, for an answer
// is proof, but not the verdict of probes: a server that fails its check on
// purpose wants no new requests, and may well answer old ones.
func (h *health) served() {
	h.failed, h.ejections, h.until = 0, 0, time.Time{}
	h.lifted, h.refuted = false, false
}

// requestFailed notes a request that failed; fatal ones, such as a refused
// connection, count at once. During an ejection nothing is added: what fails
// then was under way before or is a last resort, and must not lengthen it.
//
// What a failure tells decides whether probes may end the ejection before its
// time: that a port accepts connections says nothing of one who took a request
// and gave no answer, and would let him cost requests over and over. Nor does
// a better probe that was wrong in this way once.
func (h *health) requestFailed(now time.Time, fatal bool, tells evidence) {
	if now.Before(h.until) {
		return
	}
	h.failed++
	if !fatal && h.failed < trafficFall {
		return
	}
	h.ejected = now
	h.until = now.Add(min(minEjection<<min(h.ejections, 10), maxEjection))
	h.ejections++
	h.failed, h.goodSince = 0, 0
	h.evidence = tells
	h.refuted = h.refuted || h.lifted && tells == byAnswer
	h.lifted = false
}
