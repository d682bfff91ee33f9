package filewatch

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Events may be lost after an error: everybody has to look.
func TestOverflowIsAChange(t *testing.T) {
	for _, injected := range []error{fsnotify.ErrEventOverflow, errors.New("another")} {
		t.Run(injected.Error(), func(t *testing.T) {
			events, errs := make(chan fsnotify.Event), make(chan error)
			changed := make(chan struct{}, 1)
			var log strings.Builder
			var wg sync.WaitGroup
			wg.Go(func() {
				relay(events, errs, filepath.Join("dir", "file"), func() { changed <- struct{}{} }, slog.New(slog.NewTextHandler(&log, nil)))
			})
			errs <- injected
			<-changed
			close(errs)
			close(events)
			wg.Wait()
			if !strings.Contains(log.String(), injected.Error()) {
				t.Errorf("not logged: %s", log.String())
			}
		})
	}
}

// The files beside it, such as the temporary file of every write, are nobody's
// business.
func TestOnlyTheFileCounts(t *testing.T) {
	dir := t.TempDir()
	events := make(chan fsnotify.Event)
	changes := make(chan struct{}, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		relay(events, nil, filepath.Join(dir, "file"), func() { changes <- struct{}{} }, slog.New(slog.DiscardHandler))
	})
	for _, name := range []string{"file.tmp", "file.lock", "owners", "other"} {
		events <- fsnotify.Event{Name: filepath.Join(dir, name), Op: fsnotify.Create}
	}
	events <- fsnotify.Event{Name: filepath.Join(dir, "file"), Op: fsnotify.Create}
	events <- fsnotify.Event{Name: dir, Op: fsnotify.Remove}
	close(events)
	wg.Wait()
	if len(changes) != 2 {
		t.Errorf("%d changes, want 2: for the file and for the directory", len(changes))
	}
}

func TestDirectoryThatIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "file")
	if _, err := New(path, func() {}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), filepath.Dir(path)) {
		t.Errorf("got %v", err)
	}
}
