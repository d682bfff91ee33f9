// Package filewatch tells of changes of a file that writers replace as a
// whole.
package filewatch

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// Watcher calls a function whenever a file may have changed. It is made by
// [New].
type Watcher struct {
	fs *fsnotify.Watcher
	wg sync.WaitGroup
}

// New calls changed, from one goroutine, whenever the file at path may have
// changed, by whomever, until Close. The file need not be there, but its
// directory must. Where changes may have been missed, that counts as one and
// is logged.
func New(path string, changed func(), log *slog.Logger) (*Watcher, error) {
	dir := filepath.Dir(path)
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("start watching %s: %w; if the limit is reached, raise the sysctl fs.inotify.max_user_instances", dir, err)
	}
	// The directory, not the file: each write puts another file in its place.
	if err := notify.Add(dir); err != nil {
		_ = notify.Close()
		return nil, fmt.Errorf("watch %s: %w; if the limit is reached, raise the sysctl fs.inotify.max_user_watches", dir, err)
	}
	w := &Watcher{fs: notify}
	w.wg.Go(func() { relay(notify.Events, notify.Errors, path, changed, log) })
	return w, nil
}

// relay calls changed for events that concern the file at path, and for
// errors, after any of which events may be missing. It returns when events is
// closed.
func relay(events <-chan fsnotify.Event, errs <-chan error, path string, changed func(), log *slog.Logger) {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			// An event of the directory itself is its removal: receivers find
			// out by reading.
			if name := filepath.Clean(e.Name); filepath.Base(name) == base || name == dir {
				changed()
			}
		case err, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			log.Warn("watch the data directory", "path", dir, "error", err)
			changed()
		}
	}
}

// Close stops watching and waits until changed is not called any more.
func (w *Watcher) Close() error {
	err := w.fs.Close()
	w.wg.Wait()
	return err
}
