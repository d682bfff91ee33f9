package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// What is done by way of a directory that stays open comes to the same as by way
// of the root, errors with their names included.
func TestNearIsATree(t *testing.T) {
	ops := rapid.SampledFrom(slices.Sorted(maps.Keys(treeOps)))
	names := rapid.SampledFrom([]string{"a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/a/b", "a/b/a", "b/a/b", "a/a/a/a", ".", "a/..", "../a", "a/", "", "/a"})
	rapid.Check(t, func(rt *rapid.T) {
		var trees [2]tree
		var dirs [2]string
		for i := range trees {
			dirs[i] = t.TempDir()
			root, err := os.OpenRoot(dirs[i])
			if err != nil {
				rt.Fatal(err)
			}
			if trees[i] = tree(root); i == 1 {
				trees[i] = newNear(root)
			}
			defer trees[i].Close()
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			op := ops.Draw(rt, "op")
			one, other := names.Draw(rt, "name"), names.Draw(rt, "other")
			want, got := treeOps[op](trees[0], one, other), treeOps[op](trees[1], one, other)
			if want != got {
				rt.Fatalf("%s %q %q gives %s, and by way of the root %s", op, one, other, got, want)
			}
		}
		if want, got := listed(rt, dirs[0]), listed(rt, dirs[1]); !slices.Equal(want, got) {
			rt.Fatalf("there is %v, and by way of the root %v", got, want)
		}
	})
}

// treeOps are what is done with a tree, with what comes out of it. Which call of
// the system fails may differ.
var treeOps = map[string]func(t tree, name, other string) string{
	"write": func(t tree, name, other string) string {
		f, err := t.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			_, err = f.WriteString(other)
			err = errors.Join(err, f.Close())
		}
		return outcomeOf(err)
	},
	"open": func(t tree, name, _ string) string {
		f, err := openDir(t, name)
		if err == nil {
			err = f.Close()
		}
		return outcomeOf(err)
	},
	"lstat": func(t tree, name, _ string) string {
		info, err := t.Lstat(name)
		if err != nil {
			return outcomeOf(err)
		}
		return info.Mode().String()
	},
	"mkdir":    func(t tree, name, _ string) string { return outcomeOf(t.Mkdir(name, 0o700)) },
	"symlink":  func(t tree, name, _ string) string { return outcomeOf(t.Symlink("nowhere", name)) },
	"readlink": func(t tree, name, _ string) string { s, err := t.Readlink(name); return s + outcomeOf(err) },
	"rename":   func(t tree, name, other string) string { return outcomeOf(t.Rename(name, other)) },
	"link":     func(t tree, name, other string) string { return outcomeOf(t.Link(name, other)) },
	"remove":   func(t tree, name, _ string) string { return outcomeOf(t.Remove(name)) },
	"chmod":    func(t tree, name, _ string) string { return outcomeOf(t.Chmod(name, 0o700)) },
	"chtimes":  func(t tree, name, _ string) string { return outcomeOf(t.Chtimes(name, time.Time{}, time.Unix(1, 2))) },
}

func outcomeOf(err error) string {
	switch e := err.(type) {
	case nil:
		return "nothing"
	case *fs.PathError:
		return fmt.Sprintf("%s: %v", e.Path, e.Err)
	case *os.LinkError:
		return fmt.Sprintf("%s, %s: %v", e.Old, e.New, e.Err)
	}
	return err.Error()
}

// listed is what there is below a directory.
func listed(t *rapid.T, dir string) (all []string) {
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		all = append(all, rel+" "+d.Type().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A directory is not held for long: another one that is put in its place is seen.
func TestNearLetsGo(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open directory cannot be moved on Windows")
	}
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		n := newNear(root)
		defer n.Close()
		if err := errors.Join(n.Mkdir("d", 0o700), n.Mkdir("d/old", 0o700)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "was")), os.MkdirAll(filepath.Join(dir, "d", "new"), 0o700)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(nearFor + time.Millisecond)
		n.mu.Lock()
		open := n.dir != nil
		n.mu.Unlock()
		if open {
			t.Error("the directory is still open")
		}
		if _, err := n.Lstat("d/new"); err != nil {
			t.Errorf("what is in the other directory now: %v", err)
		}
	})
}
