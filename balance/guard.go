package balance

import (
	"sync"
	"time"
)

// guard cuts something off that has not ended in time. Deadlines of HTTP/2
// streams are set by a message to the goroutine of their connection, too much for
// one around every read and write: a guard goes there only when time is up.
// Its methods may be called concurrently.
type guard struct {
	cut func() // with the lock held, so that none is under way after disarm

	mu    sync.Mutex
	timer *time.Timer
	until time.Time // zero while nothing is waited for
}

// arm lets cut be called at a time, unless it is armed anew or disarmed before.
func (g *guard) arm(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = until
	if g.timer == nil {
		g.timer = time.AfterFunc(time.Until(until), g.fire)
	} else {
		g.timer.Reset(time.Until(until))
	}
}

func (g *guard) disarm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = time.Time{}
	if g.timer != nil {
		g.timer.Stop()
	}
}

// deadline is arm, and disarm for the zero time.
func (g *guard) deadline(t time.Time) error {
	if t.IsZero() {
		g.disarm()
	} else {
		g.arm(t)
	}
	return nil
}

func (g *guard) fire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until.IsZero() || time.Now().Before(g.until) {
		return // it was too late to stop this call
	}
	g.until = time.Time{}
	g.cut()
}

// longAgo as a deadline means now.
var longAgo = time.Unix(1, 0)
