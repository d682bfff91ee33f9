package replica

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// foldingRoot is a directory on a file system that takes upper and lower case for
// the same, and keeps the spelling by which a name was made; or keeps it as spell
// says.
type foldingRoot struct {
	*os.Root
	spell func(name string) string
}

// real returns under which name there is what is at path, and path if there is
// nothing.
func (r foldingRoot) real(name string) string {
	at := "."
	for part := range strings.SplitSeq(name, "/") {
		if r.spell != nil {
			part = r.spell(part)
		}
		if dir, err := r.Root.Open(at); err == nil {
			names, _ := dir.Readdirnames(-1)
			_ = dir.Close()
			for _, n := range names {
				if strings.EqualFold(n, part) {
					part = n
				}
			}
		}
		at = filepath.Join(at, part)
	}
	return at
}

func (r foldingRoot) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return r.Root.OpenFile(r.real(name), flag, perm)
}

func (r foldingRoot) Lstat(name string) (fs.FileInfo, error) { return r.Root.Lstat(r.real(name)) }

func (r foldingRoot) Readlink(name string) (string, error) { return r.Root.Readlink(r.real(name)) }

func (r foldingRoot) Mkdir(name string, perm fs.FileMode) error {
	return r.Root.Mkdir(r.real(name), perm)
}

func (r foldingRoot) Link(from, to string) error { return r.Root.Link(r.real(from), r.real(to)) }

func (r foldingRoot) Symlink(target, name string) error { return r.Root.Symlink(target, r.real(name)) }

func (r foldingRoot) Rename(from, to string) error { return r.Root.Rename(r.real(from), r.real(to)) }

func (r foldingRoot) Remove(name string) error { return r.Root.Remove(r.real(name)) }

func (r foldingRoot) Chmod(name string, mode fs.FileMode) error {
	return r.Root.Chmod(r.real(name), mode)
}

func (r foldingRoot) Lchown(name string, uid, gid int) error {
	return r.Root.Lchown(r.real(name), uid, gid)
}

func (r foldingRoot) Chtimes(name string, atime, mtime time.Time) error {
	return r.Root.Chtimes(r.real(name), atime, mtime)
}

// copyFolding copies to such a file system.
func copyFolding(t *testing.T, src, dst string, spell func(string) string) error {
	t.Helper()
	c := New()
	c.openRoot = func(dir string) (tree, error) {
		root, err := os.OpenRoot(dir)
		return foldingRoot{root, spell}, err
	}
	return errors.Join(copyBetween(t, c, src, dst))
}

// make a volume of files, whose content is their path, and links and empty
// directories.
func makeVolume(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, p := range paths {
		full := filepath.Join(dir, strings.TrimSuffix(strings.TrimSuffix(p, "/"), "@"))
		var err error
		switch {
		case strings.HasSuffix(p, "/"):
			err = os.MkdirAll(full, 0o755)
		case strings.HasSuffix(p, "@"):
			err = os.Symlink("nowhere", full)
		default:
			write(t, full, p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Two names of the source that are one on the follower's file system: the error
// names both, nothing takes another's place, and once one is renamed the copy is
// made.
func TestTwoNamesThatAreOne(t *testing.T) {
	for what, c := range map[string]struct {
		paths []string
		names [2]string
	}{
		"files":               {[]string{"A", "a"}, [2]string{"A", "a"}},
		"files in a folder":   {[]string{"d/Read.me", "d/other", "d/read.ME"}, [2]string{"d/Read.me", "d/read.ME"}},
		"directories":         {[]string{"Dir/a", "dir/b"}, [2]string{"Dir", "dir"}},
		"empty directories":   {[]string{"Dir/", "dir/", "f"}, [2]string{"Dir", "dir"}},
		"links":               {[]string{"L@", "l@"}, [2]string{"L", "l"}},
		"file and link":       {[]string{"X", "x@"}, [2]string{"X", "x"}},
		"file and directory":  {[]string{"X", "x/"}, [2]string{"X", "x"}},
		"file and its folder": {[]string{"X", "x/y"}, [2]string{"X", "x"}},
	} {
		t.Run(what, func(t *testing.T) {
			src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
			makeVolume(t, src, c.paths...)
			for range 2 { // a copy of it that is there already changes nothing
				err := copyFolding(t, src, dst, nil)
				if !errors.Is(err, ErrNames) || !strings.Contains(err.Error(), `"`+c.names[0]+`" and "`+c.names[1]+`"`) {
					t.Fatalf("the error does not name both: %v", err)
				}
			}
			_ = filepath.WalkDir(dst, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					rel, _ := filepath.Rel(dst, path)
					if got, _ := os.ReadFile(path); string(got) != rel {
						t.Errorf("%s has the content of %s", rel, got)
					}
				}
				return err
			})
			if err := os.Rename(filepath.Join(src, c.names[1]), filepath.Join(src, "other")); err != nil {
				t.Fatal(err)
			}
			if err := copyFolding(t, src, dst, nil); err != nil {
				t.Errorf("after one was renamed: %v", err)
			}
			if err := errors.Join(copyBetween(t, New(), src, dst)); err != nil {
				t.Errorf("the copy is not in order: %v", err)
			}
		})
	}
}

// A name that changes but in case is no other name there.
func TestRenameInCaseAlone(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	makeVolume(t, src, "File", "Dir/Sub/f", "Empty/", "Link@")
	if err := copyFolding(t, src, dst, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"File", "Dir/Sub", "Dir", "Empty", "Link"} {
		to := filepath.Join(filepath.Dir(name), strings.ToUpper(filepath.Base(name)))
		if err := os.Rename(filepath.Join(src, name), filepath.Join(src, to)); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyFolding(t, src, dst, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"FILE", "DIR/SUB/f", "EMPTY", "LINK"} {
		if _, err := os.Lstat(filepath.Join(dst, name)); err != nil {
			t.Error(err)
		}
	}
}

// A file system that spells names in its own way is noticed, and nothing removed
// for it.
func TestNamesThatAreNotKept(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	makeVolume(t, src, "a\u0308", "plain")
	spell := func(name string) string { return strings.ReplaceAll(name, "a\u0308", "\u00e4") }
	for range 2 {
		err := copyFolding(t, src, dst, spell)
		if !errors.Is(err, ErrNames) || !strings.Contains(err.Error(), "keeps") || !strings.Contains(err.Error(), `"ä"`) {
			t.Fatalf("the error does not name both spellings: %v", err)
		}
		if got, err := os.ReadFile(filepath.Join(dst, "\u00e4")); err != nil || string(got) != "a\u0308" {
			t.Errorf("what came is %q, %v", got, err)
		}
	}
}
