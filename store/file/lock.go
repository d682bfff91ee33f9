package file

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gofrs/flock"

	"github.com/budgiehq/budgie/internal/lockfile"
)

// Waiting for a lock of another process is polling: only a lock call that
// cannot be interrupted would be woken. The pause grows from minPause to
// maxPause, each taken at random from its upper half so that two that wait do
// not stay in step.
const (
	minPause = 200 * time.Microsecond
	maxPause = 5 * time.Millisecond
)

// errNotNeeded ends a wait for a lock that nobody needs any more.
var errNotNeeded = errors.New("lock not needed any more")

// lockFile waits for the lock on path until ctx ends, or until needed returns
// false, which gives errNotNeeded.
func lockFile(ctx context.Context, path string, needed func() bool) (*flock.Flock, error) {
	pause := minPause
	var timer *time.Timer
	for {
		l, ok, err := lockfile.Try(path)
		if err != nil || ok {
			return l, err
		}
		if !needed() {
			return nil, errNotNeeded
		}
		if timer == nil {
			timer = time.NewTimer(0)
			defer timer.Stop()
			<-timer.C
		}
		timer.Reset(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process holds the lock %s: %w", path, ctx.Err())
		case <-timer.C:
			pause = min(2*pause, maxPause)
		}
	}
}

func always() bool { return true }
