package file

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"

	"github.com/budgiehq/budgie/store"
)

// Watch sends a value at once and after every change, by whichever process,
// until ctx ends or the store is closed, when it closes the channel. Changes in
// quick succession may share a value; the last one is never missed.
func (s *Store) Watch(ctx context.Context) (<-chan struct{}, error) {
	if err := s.watchDir(ctx); err != nil {
		return nil, fmt.Errorf("watch containers: %w", err)
	}
	// The directory is watched by now: whatever changes before this is seen
	// by the read after the first value, whatever changes later is noticed.
	c, ok := s.changes.Subscribe(ctx)
	if !ok {
		return nil, fmt.Errorf("watch containers: %w", store.ErrClosed)
	}
	return c, nil
}

// watchDir starts the one watcher that all calls of Watch share.
func (s *Store) watchDir(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if s.watcher != nil {
		return nil
	}
	w, err := newWatcher(s.dir, s.changes.Tick, s.log)
	if err != nil {
		return err
	}
	s.watcher = w
	return nil
}

// watcher calls tick whenever the state file may have changed.
type watcher struct {
	fs *fsnotify.Watcher
	wg sync.WaitGroup
}

func newWatcher(dir string, tick func(), log *slog.Logger) (*watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("start watching %s: %w; if the limit is reached, raise the sysctl fs.inotify.max_user_instances", dir, err)
	}
	// The directory, not the file: each write puts another file in its place.
	if err := notify.Add(dir); err != nil {
		_ = notify.Close()
		return nil, fmt.Errorf("watch %s: %w; if the limit is reached, raise the sysctl fs.inotify.max_user_watches", dir, err)
	}
	w := &watcher{fs: notify}
	w.wg.Go(func() { relay(notify.Events, notify.Errors, dir, tick, log) })
	return w, nil
}

// relay calls tick for events that concern the state file in dir, and for
// errors, after any of which events may be missing. It returns when events is
// closed.
func relay(events <-chan fsnotify.Event, errs <-chan error, dir string, tick func(), log *slog.Logger) {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			// An event of the directory itself is its removal: receivers find
			// out by reading.
			if name := filepath.Clean(e.Name); filepath.Base(name) == stateName || name == dir {
				tick()
			}
		case err, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			log.Warn("watch the data directory", "path", dir, "error", err)
			tick()
		}
	}
}

// close stops watching and waits for the goroutine.
func (w *watcher) close() error {
	err := w.fs.Close()
	w.wg.Wait()
	return err
}
