package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"github.com/gofrs/flock"

	"github.com/budgiehq/budgie/internal/ownership"
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

// tryLock locks the file at path, which it creates if needed, and returns
// false if another holds the lock. Every call opens the file anew: flock locks
// belong to the open file, so this excludes other goroutines as well.
func tryLock(path string) (*flock.Flock, bool, error) {
	for {
		// Made apart: a lock that root makes must be one for the owner of the
		// directory too.
		f, err := ownership.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
		if err != nil {
			return nil, false, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := f.Close(); err != nil {
			return nil, false, fmt.Errorf("lock %s: %w", path, err)
		}
		l := flock.New(path, flock.SetFlag(os.O_RDONLY))
		ok, err := l.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was made
		}
		if err != nil {
			return nil, false, fmt.Errorf("lock %s: %w", path, err)
		}
		if !ok {
			return nil, false, nil
		}
		// The file may have been removed between open and lock, and then the
		// lock excludes nobody.
		if same, err := isAt(l, path); err != nil {
			return nil, false, errors.Join(fmt.Errorf("lock %s: %w", path, err), l.Unlock())
		} else if same {
			return l, true, nil
		}
		if err := l.Unlock(); err != nil {
			return nil, false, fmt.Errorf("unlock %s: %w", path, err)
		}
	}
}

// isAt reports whether path still leads to the file that l has locked.
func isAt(l *flock.Flock, path string) (bool, error) {
	locked, err := l.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return os.SameFile(locked, now), nil
}

// lockFile waits for the lock on path until ctx ends, or until needed returns
// false, which gives errNotNeeded.
func lockFile(ctx context.Context, path string, needed func() bool) (*flock.Flock, error) {
	pause := minPause
	var timer *time.Timer
	for {
		l, ok, err := tryLock(path)
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
