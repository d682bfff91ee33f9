package replica

import (
	"time"

	"github.com/budgiehq/budgie/replica/watch"
)

// fullScans says when all of a tree is looked at, beside what its watcher names: every
// so often, and sooner where the watcher says that it cannot name everything.
type fullScans struct {
	every time.Duration
	// last is when the last one began, took how long it took, and passed says that the
	// watcher has asked for one since.
	last   time.Time
	took   time.Duration
	passed bool
}

// What a watcher asks for is done after passedAfter, and for at most one part in
// passedShare of the time: files come and go all the time in some trees.
const (
	passedAfter = 3 * time.Second
	passedShare = 100
)

// take notes what a watcher asks for.
func (f *fullScans) take(b watch.Batch) { f.passed = f.passed || b.Passed }

// wait returns how long it is until the next one.
func (f *fullScans) wait() time.Duration {
	every := f.every
	if f.passed {
		every = min(every, max(passedAfter, passedShare*f.took))
	}
	return max(0, time.Until(f.last.Add(every)))
}

// begin notes that one begins.
func (f *fullScans) begin() { f.last, f.passed = time.Now(), false }

// end notes that it is done.
func (f *fullScans) end() { f.took = time.Since(f.last) }
