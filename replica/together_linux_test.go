package replica

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRelease(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0": true, "5.8": true, "5.10.0-30-amd64": true, "6.1.0-38-amd64": true, "10.0": true,
		"5.7.19": false, "4.19.0": false, "5": false, "": false, "x.y": false,
	} {
		if got := atLeast(release, 5, 8); got != want {
			t.Errorf("%q is at least 5.8: %v", release, got)
		}
	}
}

// Files are made durable together where they are all of one file system that is known
// for it, and else one by one.
func TestSyncTogether(t *testing.T) {
	dirs := map[string]string{"here": t.TempDir(), "memory": "/dev/shm"}
	known := map[string]bool{}
	for name, dir := range dirs {
		var system unix.Statfs_t
		if err := unix.Statfs(dir, &system); err != nil {
			t.Fatal(err)
		}
		known[name] = syncfsTells() && slices.Contains(wholeSync, int64(system.Type))
	}
	open := func(dir string) *incoming {
		f, err := os.CreateTemp(dir, "together")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close(); os.Remove(f.Name()) })
		return &incoming{file: f}
	}
	for name, dir := range dirs {
		if got := syncTogether([]*incoming{{}, open(dir), open(dir)}); got != known[name] {
			t.Errorf("%s (%s): files are synced together: %v, want %v", name, dir, got, known[name])
		}
	}
	if syncTogether([]*incoming{open(dirs["here"]), open(dirs["memory"])}) {
		t.Error("files of two file systems are synced by one call")
	}
	if !syncTogether([]*incoming{{}}) {
		t.Error("where nothing is open, nothing is to be done")
	}
}

// Of a batch that is large enough to be synced together each file is closed, and one
// that fails is told of.
func TestLargeBatch(t *testing.T) {
	for _, fails := range []bool{false, true} {
		to, dir, arrive := arriving(t)
		var files []*incoming
		for i := range togetherFrom {
			files = append(files, arrive(fmt.Sprint("f", i)))
		}
		if fails {
			_ = files[3].file.Close()
		}
		if err := to.settleArrived(); errors.Is(err, os.ErrClosed) != fails || !fails && err != nil {
			t.Errorf("settleArrived: %v", err)
		}
		for _, c := range files {
			if c.file != nil {
				t.Errorf("%s is open", c.entry.path)
			}
		}
		names, err := filepath.Glob(filepath.Join(dir, "f*"))
		if want := map[bool]int{false: togetherFrom}[fails]; err != nil || len(names) != want {
			t.Errorf("%d files are there, want %d: %v", len(names), want, err)
		}
	}
}
