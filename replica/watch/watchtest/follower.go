package watchtest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica/watch"
)

// patience is how long a change may take to be reported before a test fails.
const patience = 20 * time.Second

// Follower keeps an image of a tree by what a watcher says.
type Follower struct {
	Root    string
	Watcher watch.Watcher
	Image   Image
	// Batches are those received so far.
	Batches []watch.Batch
}

// Follow watches root, and scans it after that. The watcher is closed with the
// test.
func Follow(t *testing.T, open Open, root string, opts ...watch.Option) *Follower {
	t.Helper()
	w, err := open(root, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	image, err := Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	return &Follower{Root: root, Watcher: w, Image: image}
}

// Next receives a batch and applies it.
func (f *Follower) Next(t *testing.T) watch.Batch {
	t.Helper()
	var b watch.Batch
	var ok bool
	select {
	case b, ok = <-f.Watcher.Changes():
	case <-time.After(patience):
		t.Fatalf("no batch within %v", patience)
	}
	if !ok {
		t.Fatal("the watcher has ended")
	}
	f.Batches = append(f.Batches, b)
	if err := f.Image.Apply(f.Root, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// Converge receives batches until the image is as the tree, which nobody
// changes meanwhile.
func (f *Follower) Converge(t *testing.T) {
	t.Helper()
	deadline := time.After(patience)
	for {
		diff, err := f.Image.Diff(f.Root)
		if err != nil {
			t.Fatal(err)
		}
		if diff == "" {
			return
		}
		select {
		case b, ok := <-f.Watcher.Changes():
			if !ok {
				t.Fatalf("the watcher has ended; not noticed:\n%s", diff)
			}
			f.Batches = append(f.Batches, b)
			if err := f.Image.Apply(f.Root, b); err != nil {
				t.Fatal(err)
			}
		case <-deadline:
			t.Fatalf("not noticed within %v:\n%s\nlast batches: %+v", patience, diff, f.Batches[max(0, len(f.Batches)-5):])
		}
	}
}

// Hears makes a file in each directory: one that is not watched any more is
// found out.
func (f *Follower) Hears(t *testing.T) {
	t.Helper()
	dirs := make([]string, 0, len(f.Image))
	for dir := range f.Image {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(f.Root, filepath.FromSlash(dir), "heard"), []byte(dir), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f.Converge(t)
}

// named says whether a batch so far names a directory.
func (f *Follower) named(dir string) bool {
	return slices.ContainsFunc(f.Batches, func(b watch.Batch) bool { return slices.Contains(b.Dirs, dir) })
}
