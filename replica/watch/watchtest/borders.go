package watchtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica/watch"
)

// testNoReceiver lets nobody receive while much happens.
func (s suite) testNoReceiver(t *testing.T) {
	root := t.TempDir()
	f := Follow(t, s.open, root, watch.WithMaxDirs(50))
	for i := range 500 {
		must(t, os.MkdirAll(filepath.Join(root, fmt.Sprint(i)), 0o755))
	}
	f.Converge(t)
	f.Hears(t)
	for _, b := range f.Batches {
		if len(b.Dirs) > 50 || b.All && b.Dirs != nil {
			t.Errorf("a batch of %d directories, All %v", len(b.Dirs), b.All)
		}
	}
}

func (s suite) testTooMany(t *testing.T) {
	root := t.TempDir()
	for i := range 20 {
		must(t, os.MkdirAll(filepath.Join(root, fmt.Sprint(i)), 0o755))
	}
	f := Follow(t, s.open, root, watch.WithMaxDirs(10), watch.WithQuiet(200*time.Millisecond))
	for i := range 20 {
		must(t, write(filepath.Join(root, fmt.Sprint(i), "file"), ""))
	}
	for {
		// Other reports of everything may take its place.
		if b := f.Next(t); b.All && (!s.exact || errors.Is(b.Reason, watch.ErrTooMany)) {
			break
		}
	}
	f.Converge(t)
}

// testRootGone removes the root in each way, and brings it back.
func (s suite) testRootGone(t *testing.T) {
	for _, way := range []struct {
		name string
		do   func(root, beside string) error
	}{
		{"moved", func(root, beside string) error { return os.Rename(root, beside) }},
		{"removed", func(root, _ string) error { return os.RemoveAll(root) }},
		{"parent moved", func(root, beside string) error { return os.Rename(filepath.Dir(root), beside) }},
		{"replaced", func(root, beside string) error {
			return errors.Join(os.Rename(root, beside), os.MkdirAll(filepath.Join(root, "other"), 0o755))
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			root := filepath.Join(base, "parent", "root")
			must(t, os.MkdirAll(filepath.Join(root, "dir"), 0o755), write(filepath.Join(root, "dir", "file"), ""))
			f := Follow(t, s.open, root)
			must(t, way.do(root, filepath.Join(base, "beside")))
			f.waitAll(t, func(reason error) bool { return errors.Is(reason, watch.ErrRootGone) })
			must(t, os.MkdirAll(filepath.Join(root, "new", "dir"), 0o755))
			f.waitAll(t, func(reason error) bool { return reason == nil })
			f.Converge(t)
			f.Hears(t)
		})
	}
}

// waitAll receives batches until one says everything for a reason.
func (f *Follower) waitAll(t *testing.T, is func(reason error) bool) {
	t.Helper()
	for {
		select {
		case b, ok := <-f.Watcher.Changes():
			if !ok {
				t.Fatal("the watcher has ended")
			}
			if b.All {
				// There may be nothing to scan.
				_ = f.Image.Apply(f.Root, b)
			}
			if b.All && is(b.Reason) {
				return
			}
		case <-time.After(patience):
			t.Fatal("no batch says so")
		}
	}
}

func (s suite) testNoRoot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, write(file, ""))
	for _, root := range []string{file, filepath.Join(t.TempDir(), "missing")} {
		if w, err := s.open(root); err == nil {
			t.Errorf("%s is watched", root)
			_ = w.Close()
		}
	}
}

// testClose closes while much happens and nobody receives.
func (s suite) testClose(t *testing.T) {
	for range 5 {
		root := t.TempDir()
		w, err := s.open(root, watch.WithMaxDelay(20*time.Millisecond))
		must(t, err)
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					_ = os.MkdirAll(filepath.Join(root, fmt.Sprint(i%20), fmt.Sprint(i)), 0o755)
				}
			}
		})
		if b := <-w.Changes(); len(b.Dirs) == 0 && !b.All {
			t.Errorf("an empty batch: %+v", b)
		}
		var closing sync.WaitGroup
		for range 2 {
			closing.Go(func() {
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		closing.Wait()
		close(stop)
		wg.Wait()
		if _, ok := <-w.Changes(); ok {
			t.Error("the channel is open after Close")
		}
	}
}
