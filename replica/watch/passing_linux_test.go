package watch_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/budgiehq/budgie/replica/watch"
	"github.com/budgiehq/budgie/replica/watch/watchtest"
)

// A file that is written by another name, which comes and goes before anybody looks, is
// in a directory of which nothing is heard: it is said that there may be such a one.
func TestNamesThatPass(t *testing.T) {
	for what, c := range map[string]struct {
		do     func(in func(string) string) error
		passed bool
	}{
		"a link that goes again": {func(in func(string) string) error {
			return errors.Join(os.Link(in("a/file"), in("b/link")), os.WriteFile(in("b/link"), []byte("new"), 0o644), os.Remove(in("b/link")))
		}, true},
		"a link that is renamed, and goes": {func(in func(string) string) error {
			return errors.Join(os.Link(in("a/file"), in("b/link")), os.Rename(in("b/link"), in("c/link")), os.WriteFile(in("c/link"), []byte("new"), 0o644), os.Remove(in("c/link")))
		}, true},
		"a link that leaves the tree": {func(in func(string) string) error {
			return errors.Join(os.Link(in("a/file"), in("b/link")), os.WriteFile(in("b/link"), []byte("new"), 0o644), os.Rename(in("b/link"), in("../link")))
		}, true},
		"a link that is replaced": {func(in func(string) string) error {
			return errors.Join(os.Link(in("a/file"), in("b/link")), os.WriteFile(in("b/link"), []byte("new"), 0o644), os.Rename(in("c/file"), in("b/link")))
		}, true},
		"a link in a directory that is new": {func(in func(string) string) error {
			return errors.Join(os.Mkdir(in("b/new"), 0o755), os.Link(in("a/file"), in("b/new/link")), os.WriteFile(in("b/new/link"), []byte("new"), 0o644), os.RemoveAll(in("b/new")))
		}, true},
		"a link that stays": {func(in func(string) string) error {
			return errors.Join(os.Link(in("a/file"), in("b/link")), os.WriteFile(in("b/link"), []byte("new"), 0o644))
		}, false},
		"a file that is replaced as files are": {func(in func(string) string) error {
			return errors.Join(os.WriteFile(in("b/.new"), []byte("new"), 0o644), os.Rename(in("b/.new"), in("b/file")))
		}, false},
		"a file that was there": {func(in func(string) string) error { return os.Remove(in("b/file")) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			for _, dir := range []string{"a", "b", "c"} {
				if err := errors.Join(os.MkdirAll(filepath.Join(root, dir), 0o755), os.WriteFile(filepath.Join(root, dir, "file"), nil, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			f := watchtest.Follow(t, watch.New, root)
			if err := c.do(func(name string) string { return filepath.Join(root, name) }); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "end"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			passed := false
			for {
				b := f.Next(t)
				passed = passed || b.Passed
				if len(b.Dirs) > 0 && b.Dirs[0] == "." {
					break
				}
			}
			if passed != c.passed {
				t.Errorf("passed is %t, want %t", passed, c.passed)
			}
		})
	}
}
