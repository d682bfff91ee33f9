package budgie

import (
	"sync"
	"time"
)

// pauses notices when this program did not run for a while: because somebody stopped
// it, or the machine slept, or had no time for it.
type pauses struct {
	mu      sync.Mutex
	last    time.Time
	most    time.Duration
	ended   chan struct{}
	watcher sync.WaitGroup
}

// watchPauses begins to look for pauses, until stop.
func watchPauses() *pauses {
	p := &pauses{last: time.Now(), ended: make(chan struct{})}
	p.watcher.Go(func() {
		const every = 50 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.longest()
			case <-p.ended:
				return
			}
		}
	})
	return p
}

// longest returns how long the longest pause took so far.
func (p *pauses) longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	// The monotonic clock of some systems stands still while the machine sleeps.
	p.most = max(p.most, now.Sub(p.last), now.Round(0).Sub(p.last.Round(0)))
	p.last = now
	return p.most
}

// stop ends the looking.
func (p *pauses) stop() {
	close(p.ended)
	p.watcher.Wait()
}
