package replica

import (
	"testing"
	"time"
)

// What went counts for a while, and no longer than twice that.
func TestLossesPass(t *testing.T) {
	var l losses
	at := time.Now()
	l.add(at, 100)
	l.lose(30)
	for _, c := range []struct {
		after        time.Duration
		there, fewer int
	}{{0, 100, 40}, {lossPeriod - 1, 100, 40}, {lossPeriod, 100, 40}, {2*lossPeriod - 1, 100, 40}, {2 * lossPeriod, 70, 10}, {9 * lossPeriod, 70, 10}} {
		l.add(at.Add(c.after), 70)
		if there, fewer := l.with(10, 60); there != c.there || fewer != c.fewer {
			t.Errorf("after %s %d of %d count as lost", c.after, fewer, there)
		}
	}
	if _, fewer := l.with(50, 70); fewer != 0 {
		t.Errorf("%d count as lost where as many came", fewer)
	}
}
