package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/budgiehq/budgie/internal/filewatch"
	"github.com/budgiehq/budgie/internal/lockfile"
	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// The names in the data directory.
const (
	stateName  = "state.json"
	tempSuffix = ".tmp"
	lockName   = "state.lock"
	ownersName = "owners"
)

// Store keeps records in a directory that any number of processes share. It is
// made by [Open]. All methods may be called concurrently.
type Store struct {
	dir       string
	statePath string
	lockPath  string
	log       *slog.Logger
	disk      disk

	cache   cache
	commits *committer
	changes store.Ticks
	owners  owners

	mu      sync.Mutex
	closed  bool
	watcher *filewatch.Watcher // nil before the first Watch
}

// Option changes how a store works.
type Option func(*Store)

// WithLogger makes the store log what goes wrong without being anybody's
// error. Without it, or with nil, the store is silent.
func WithLogger(log *slog.Logger) Option {
	return func(s *Store) {
		if log != nil {
			s.log = log
		}
	}
}

// Open opens the store in a directory, which it creates with mode 0700, parents
// included. It fails if the directory cannot be written to, but does not look
// at the records in it.
//
// Whoever can write there can have commands run, so Open refuses a directory
// that belongs to another user, unless this one is root, and one that others
// may write to. An empty one that only its group may write to, as some umasks
// make them, is closed to the group instead. What root makes in the directory
// of another user belongs to that user.
func Open(dir string, opts ...Option) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		dir:       dir,
		statePath: filepath.Join(dir, stateName),
		lockPath:  filepath.Join(dir, lockName),
		log:       slog.New(slog.DiscardHandler),
		disk:      osDisk{},
	}
	for _, opt := range opts {
		opt(s)
	}
	s.cache.path = s.statePath
	s.commits = newCommitter(s.lockPath, s.write)
	s.owners.init(filepath.Join(dir, ownersName), s.log)
	if err := s.prepare(); err != nil {
		s.commits.close()
		todo := "make it writable for this user, or set BUDGIE_DATA_DIR to another directory"
		if e, ok := errors.AsType[*notPrivateError](err); ok {
			todo = e.todo
		}
		return nil, fmt.Errorf("open store: the data directory %s cannot be used: %w; %s", dir, err, todo)
	}
	return s, nil
}

// prepare makes the directory ready and removes what crashed processes left.
func (s *Store) prepare() error {
	// Looked at before anything is made in it, and again in case it was made.
	if err := checkPrivate(s.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.makeDirs(); err != nil {
		return err
	}
	if err := checkPrivate(s.dir); err != nil {
		return err
	}
	lock, ok, err := lockfile.Try(s.lockPath)
	if err != nil {
		return err
	}
	if ok { // else somebody writes there, and removes what is left over
		err := errors.Join(tryWrite(s.statePath+tempSuffix), lock.Unlock())
		if err != nil {
			return err
		}
	}
	return s.owners.sweep()
}

// tryWrite finds out whether a file can be written, and removes it.
func tryWrite(path string) error {
	f, err := ownership.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(path))
}

// makeDirs creates the directories. Each that is new must survive a crash like
// what is written in it later, so the directory above it is fsynced.
func (s *Store) makeDirs() error {
	var above []string
	for dir := s.owners.dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		above = append(above, filepath.Dir(dir))
	}
	if err := ownership.MkdirAll(s.owners.dir, 0o700); err != nil {
		return err
	}
	for _, dir := range above {
		if err := s.disk.SyncDir(dir); err != nil {
			return fmt.Errorf("fsync %s: %w", dir, err)
		}
	}
	return nil
}

// Dir returns the directory of the store, as an absolute path.
func (s *Store) Dir() string { return s.dir }

// Get returns the record of an id, store.ErrNotFound without one.
func (s *Store) Get(ctx context.Context, id string) (lifecycle.Container, error) {
	snap, err := s.load(ctx)
	var c lifecycle.Container
	if err == nil {
		c, err = snap.table.Get(id)
	}
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("get container %.12s: %w", id, err)
	}
	return c, nil
}

// List returns all records, oldest first, those of the same time by id.
func (s *Store) List(ctx context.Context) ([]lifecycle.Container, error) {
	snap, err := s.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return snap.table.List(), nil
}

// Put writes a record if the stored one still has its Revision, and returns it
// as stored, with the new Revision. Revision 0 creates. When Put returns nil
// the record survives a crash of the machine.
//
// The end of ctx ends the wait for other processes that write; once the write
// has begun, its true outcome is returned.
func (s *Store) Put(ctx context.Context, c lifecycle.Container) (lifecycle.Container, error) {
	name, id := c.Name, c.ID
	var stored lifecycle.Container
	c, err := store.Canonical(c)
	if err == nil {
		err = s.commits.do(ctx, putOp(c, &stored))
	}
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("put container %s (%.12s): %w", name, id, err)
	}
	return stored, nil
}

// Delete removes the record of an id if it still has this revision. It waits
// as Put does.
func (s *Store) Delete(ctx context.Context, id string, revision uint64) error {
	if err := s.commits.do(ctx, deleteOp(id, revision)); err != nil {
		return fmt.Errorf("delete container %.12s: %w", id, err)
	}
	return nil
}

// Close frees what the value holds, owner names included. Writes that have
// begun are finished first. It can be called again.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	w := s.watcher
	s.watcher = nil
	s.mu.Unlock()
	s.commits.close()
	s.changes.Close()
	s.cache.close()
	err := s.owners.close()
	if w != nil {
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		return fmt.Errorf("close store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) load(ctx context.Context) (*snapshot, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	return s.cache.load()
}

// usable returns why the store cannot be used now.
func (s *Store) usable(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	return ctx.Err()
}
