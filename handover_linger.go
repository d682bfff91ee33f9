package budgie

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/budgiehq/budgie/internal/lockfile"
)

// lingerLook is how often to look whether another process still has connections.
const lingerLook = 10 * time.Millisecond

// lingerDir has the locks of processes with connections to containers that others have
// taken over from them.
func (c *Client) lingerDir() string { return filepath.Join(c.cfg.dataDir, "lingering") }

// linger says, until leave is called, that this process may have connections to the
// container, whoever keeps it: who stops it should wait for their end. It may be called
// where that is said already.
func (k *keeper) linger() {
	if k.lingering != nil {
		return
	}
	l, locked, err := k.lockLingering()
	if err != nil || !locked {
		k.log.Debug("a stop after the change of supervisors will not wait for what is under way here", "error", err)
		return
	}
	k.lingering = sync.OnceFunc(func() {
		_ = os.Remove(l.Path()) // one that stays does no harm
		_ = l.Unlock()
	})
}

func (k *keeper) lockLingering() (l *flock.Flock, locked bool, err error) {
	if err := os.MkdirAll(k.c.lingerDir(), 0o700); err != nil {
		return nil, false, err
	}
	return lockfile.Try(filepath.Join(k.c.lingerDir(), k.id+"."+strconv.Itoa(os.Getpid())))
}

// leaveLingering ends what linger said.
func (k *keeper) leaveLingering() {
	if k.lingering != nil {
		k.lingering()
		k.lingering = nil
	}
}

// awaitLingering waits until no process that the container was taken over from has
// connections to it, or ctx ends.
func (k *keeper) awaitLingering(ctx context.Context) {
	entries, _ := os.ReadDir(k.c.lingerDir()) // without it there are none
	for _, e := range entries {
		name := filepath.Join(k.c.lingerDir(), e.Name())
		for strings.HasPrefix(e.Name(), k.id+".") && ctx.Err() == nil {
			l, free, err := lockfile.Try(name)
			if free {
				_ = os.Remove(name) // its process has ended without
				_ = l.Unlock()
			}
			if free || err != nil {
				break
			}
			wait(ctx, lingerLook)
		}
	}
}
