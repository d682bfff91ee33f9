package balance

import (
	"sync"
	"time"
)

// throttle counts what would fill the log. Its methods may be called concurrently.
type throttle struct {
	mu   sync.Mutex
	last time.Time
	n    int
}

const throttleEvery = 10 * time.Second

// next counts one more, and returns how many there were since the last time that
// it reported true, at most once every throttleEvery.
func (t *throttle) next(now time.Time) (n int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	if !t.last.IsZero() && now.Sub(t.last) < throttleEvery {
		return 0, false
	}
	n, t.last, t.n = t.n, now, 0
	return n, true
}
