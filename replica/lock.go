package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/budgiehq/budgie/internal/lockfile"
)

// lock keeps others, of other processes too, from receiving into the same copy. Its
// file says who has it, and goes with the lock.
func (b *beside) lock() (unlock func(), err error) {
	name := b.dir + ".lock"
	l, locked, err := lockfile.Try(name)
	switch {
	case noRoom(err):
		return func() {}, nil // not even for that file: making room comes first
	case err != nil:
		return nil, fmt.Errorf("locking the copy: %w", err)
	case !locked:
		return nil, fmt.Errorf("%w: %s, by the lock %s: wait until that is done, or end it", ErrBusy, holder(name), name)
	}
	if err := os.WriteFile(name, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0o600); err != nil && !noRoom(err) {
		return nil, errors.Join(fmt.Errorf("locking the copy: %w", err), l.Close())
	}
	return func() {
		_ = os.Remove(name) // one that stays does no harm
		_ = l.Close()
	}, nil
}

// holder says who has a lock.
func holder(name string) string {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "another process received into it until a moment ago"
	}
	if pid, err := strconv.Atoi(string(text)); err == nil {
		return fmt.Sprintf("process %d receives into it", pid)
	}
	return "another process receives into it" // and has not said yet which
}
