package replica

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestIndexFollowsMarks changes a tree at random, marks what package watch would
// name, and compares the index with a look at everything.
func TestIndexFollowsMarks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "budgie-index-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		x := newIndex(&scanner{root: root, lenient: true})
		if _, err := x.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			for range rapid.IntRange(1, 6).Draw(t, "changes") {
				mutate(t, dir, x)
			}
			compareIndex(t, root, x)
		}
	})
}

var indexNames = []string{"a", "b", "a-b", "c/d", "c", "c/a/b", "c/a", "a/a", "a/b/c", reserved, "a/" + reserved, "c/a/" + reserved}

// reserved is a name that a directory cannot have in a copy.
var reserved = temporaryPrefix + strings.Repeat("0", 32)

// mutate makes one change, and marks its directories.
func mutate(t *rapid.T, dir string, x *index) {
	name := rapid.SampledFrom(indexNames).Draw(t, "name")
	at := filepath.Join(dir, name)
	mark := func(name string) { x.mark(parent(name)) }
	switch rapid.IntRange(0, 4).Draw(t, "change") {
	case 0:
		if os.WriteFile(at, []byte(rapid.StringN(0, 4, 8).Draw(t, "text")), 0o644) == nil {
			mark(name)
		}
	case 1:
		for d := name; d != "."; d = path.Dir(d) {
			mark(d)
			x.mark(d)
		}
		_ = os.MkdirAll(at, 0o755) // a file may be in the way
	case 2:
		_ = os.RemoveAll(at)
		mark(name)
	case 3:
		to := rapid.SampledFrom(indexNames).Draw(t, "to")
		if os.Rename(at, filepath.Join(dir, to)) != nil {
			return
		}
		mark(name)
		mark(to)
		_ = filepath.WalkDir(filepath.Join(dir, to), func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				rel, _ := filepath.Rel(dir, p) // both are absolute
				x.mark(filepath.ToSlash(rel))
			}
			return err
		})
	case 4:
		if os.Chmod(at, 0o700) == nil {
			mark(name)
			x.mark(name)
		}
	}
}

func compareIndex(t *rapid.T, root *os.Root, x *index) {
	t.Helper()
	got, err := x.refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := &scanner{root: root, lenient: true}
	want, err := all.scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(x.scanner.skipped, all.skipped) {
		t.Fatalf("the index passes by %q, and there is %q", x.scanner.skipped, all.skipped)
	}
	if !slices.EqualFunc(got, want, sameFound) {
		t.Fatalf("the index has\n%+v\nand there is\n%+v", got, want)
	}
}

// A time of modification that is still to come does not have a file read at each look;
// one that came to be as it was read does.
func TestTimesThatProve(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
	for _, c := range []struct {
		mtime, ctime time.Duration
		proven       bool
	}{
		{-time.Hour, -time.Hour, true}, {time.Hour, -time.Hour, true}, {-time.Second, -time.Hour, false},
		{-time.Hour, -time.Second, false}, {time.Hour, -time.Second, false}, {time.Second, time.Second, false},
	} {
		if got := (fingerprint{mtime: at(c.mtime), ctime: at(c.ctime)}).provenAt(now); got != c.proven {
			t.Errorf("modified %s and changed %s after it was read: proven is %v", c.mtime, c.ctime, got)
		}
	}
}
