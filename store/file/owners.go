package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/budgiehq/budgie/internal/lockfile"
	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/store"
)

const (
	// gateName cannot be an owner's file, since owner names have no dots.
	gateName    = ".gate"
	ownerSuffix = ".lock"
	// gatePatience bounds the wait for the gate where there is no context: it
	// is held for microseconds, unless its holder is suspended.
	gatePatience = time.Second
)

// owners holds the owner names of this store. All methods may be called
// concurrently.
type owners struct {
	dir  string
	gate string
	log  *slog.Logger
	// turn lets one goroutine at a time wait for the gate. It is a channel
	// because a context can end that wait.
	turn chan struct{}

	mu     sync.Mutex
	closed bool
	held   map[string]*flock.Flock
}

func (o *owners) init(dir string, log *slog.Logger) {
	o.dir, o.gate, o.log = dir, filepath.Join(dir, gateName), log
	o.turn = make(chan struct{}, 1)
	o.held = make(map[string]*flock.Flock)
}

// Acquire takes an owner name for this process until release is called, the
// store is closed, or the process dies. It does not wait for the name:
// store.ErrOwned means that another holds it, and the text says which process.
func (s *Store) Acquire(ctx context.Context, owner string) (release func() error, err error) {
	if err := store.CheckOwner(owner); err != nil {
		return nil, err
	}
	err = s.usable(ctx)
	var lock *flock.Flock
	if err == nil {
		lock, err = s.owners.acquire(ctx, owner)
	}
	if err != nil {
		return nil, fmt.Errorf("acquire owner name %s: %w", owner, err)
	}
	return func() error {
		if err := s.owners.release(owner, lock); err != nil {
			return fmt.Errorf("release owner name %s: %w", owner, err)
		}
		return nil
	}, nil
}

// Alive reports whether some process holds an owner name.
func (s *Store) Alive(ctx context.Context, owner string) (bool, error) {
	if err := store.CheckOwner(owner); err != nil {
		return false, err
	}
	err := s.usable(ctx)
	var alive bool
	if err == nil {
		alive, err = s.owners.alive(ctx, owner)
	}
	if err != nil {
		return false, fmt.Errorf("look for owner %s: %w", owner, err)
	}
	return alive, nil
}

func (o *owners) path(owner string) string { return filepath.Join(o.dir, owner+ownerSuffix) }

// inGate calls f while no other process or goroutine is in the gate.
func (o *owners) inGate(ctx context.Context, f func() error) error {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	gate, err := lockFile(ctx, o.gate, always)
	if err != nil {
		return err
	}
	return errors.Join(f(), gate.Unlock())
}

func (o *owners) acquire(ctx context.Context, owner string) (lock *flock.Flock, err error) {
	path := o.path(owner)
	err = o.inGate(ctx, func() error {
		l, ok, err := lockfile.Try(path)
		if err != nil {
			return err
		}
		if !ok {
			return ownedError(path)
		}
		// Best effort: it is for messages only, and Windows does not let a
		// locked file be written through another handle.
		writePID(path)
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.closed {
			return errors.Join(store.ErrClosed, discard(path, l))
		}
		o.held[owner] = l
		lock = l
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lock, nil
}

// writePID says who holds the name, as far as it can be written.
func writePID(path string) {
	f, err := ownership.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return
	}
	_, _ = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	_ = f.Close()
}

// ownedError returns a store.ErrOwned that says who holds the name.
func ownedError(path string) error {
	data, _ := os.ReadFile(path)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	switch {
	case err != nil || pid <= 0:
		return store.ErrOwned
	case pid == os.Getpid():
		return fmt.Errorf("%w: process %d, which is this one", store.ErrOwned, pid)
	}
	return fmt.Errorf("%w: process %d", store.ErrOwned, pid)
}

// discard removes an owner's file that this process has locked. It is called
// in the gate, so nobody can have opened the file meanwhile.
func discard(path string, l *flock.Flock) error {
	// Unlocked first: Windows does not remove open files.
	if err := l.Unlock(); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (o *owners) release(owner string, lock *flock.Flock) error {
	o.mu.Lock()
	held := o.held[owner] == lock
	if held {
		delete(o.held, owner)
	}
	o.mu.Unlock()
	if !held {
		return nil // released before, by release or by close
	}
	return o.free(owner, lock)
}

// free gives a name back.
func (o *owners) free(owner string, lock *flock.Flock) error {
	ctx, cancel := context.WithTimeout(context.Background(), gatePatience)
	defer cancel()
	entered := false
	err := o.inGate(ctx, func() error {
		entered = true
		return discard(o.path(owner), lock)
	})
	if entered {
		return err
	}
	// Without the gate the file cannot be removed, but the name can be freed.
	// The next Open removes the file.
	o.log.Warn("release an owner name without removing its file", "owner", owner, "error", err)
	return lock.Unlock()
}

func (o *owners) alive(ctx context.Context, owner string) (alive bool, err error) {
	path := o.path(owner)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil // there is a file before there is an owner
	}
	err = o.inGate(ctx, func() error {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		l, ok, err := lockfile.Try(path)
		if err != nil {
			return err
		}
		if alive = !ok; alive {
			return nil
		}
		return discard(path, l)
	})
	return alive, err
}

// sweep removes the files of owners that died. It leaves them if somebody else
// is in the gate.
func (o *owners) sweep() error {
	gate, ok, err := lockfile.Try(o.gate)
	if err != nil || !ok {
		return err
	}
	entries, err := os.ReadDir(o.dir)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ownerSuffix) {
			continue
		}
		path := filepath.Join(o.dir, e.Name())
		l, ok, lerr := lockfile.Try(path)
		if lerr == nil && ok {
			lerr = discard(path, l)
		}
		if lerr != nil {
			o.log.Warn("remove the file of a dead owner", "path", path, "error", lerr)
		}
	}
	return errors.Join(err, gate.Unlock())
}

// close releases all names and refuses further ones.
func (o *owners) close() error {
	o.mu.Lock()
	o.closed = true
	held := o.held
	o.held = nil
	o.mu.Unlock()
	var errs []error
	for owner, lock := range held {
		errs = append(errs, o.free(owner, lock))
	}
	return errors.Join(errs...)
}
