// Package lockfile has locks between processes on files that may be removed with them.
package lockfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gofrs/flock"

	"github.com/budgiehq/budgie/internal/ownership"
)

// Try locks the file at path, which it creates if needed, as the owner of its
// directory's where root does, and returns false if another holds the lock. It does
// not wait. Every call opens the file anew: flock locks belong to the open file, so
// this excludes other goroutines as well. Whoever holds the lock may remove the file.
func Try(path string) (*flock.Flock, bool, error) {
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
