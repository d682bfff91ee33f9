package ownership

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/internal/testenv"
)

const nobody = 65534

// foreignDir returns a directory of another user.
func foreignDir(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return dir
}

func wantOwner(t *testing.T, uid uint32, paths ...string) {
	t.Helper()
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if sys := info.Sys().(*syscall.Stat_t); sys.Uid != uid || sys.Gid != uid {
			t.Errorf("%s belongs to %d:%d, want %d", path, sys.Uid, sys.Gid, uid)
		}
	}
}

func TestMadeBelongsToTheDirectorysOwner(t *testing.T) {
	dir := foreignDir(t)
	file, deep := filepath.Join(dir, "file"), filepath.Join(dir, "a", "b")
	for range 2 { // made, and found
		f, err := OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = errors.Join(f.Close(), MkdirAll(deep, 0o700))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("O_EXCL for a file that is there gives %v", err)
	}
	wantOwner(t, nobody, file, deep, filepath.Dir(deep))
	if err := Mkdir(deep, 0o700); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Mkdir of what is there gives %v", err)
	}
}

func TestTree(t *testing.T) {
	dir := foreignDir(t)
	tree, outside := filepath.Join(dir, "tree"), filepath.Join(t.TempDir(), "outside")
	err := errors.Join(os.MkdirAll(filepath.Join(tree, "sub"), 0o700), os.WriteFile(outside, nil, 0o600),
		os.WriteFile(filepath.Join(tree, "sub", "f"), nil, 0o600), os.Symlink(outside, filepath.Join(tree, "link")))
	if err == nil {
		err = GiveTree(tree)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantOwner(t, nobody, tree, filepath.Join(tree, "sub"), filepath.Join(tree, "sub", "f"), filepath.Join(tree, "link"))
	wantOwner(t, 0, outside)
}

// The owner of a directory can put links in it, but root makes nothing for him
// elsewhere through them, nor gives him what is there.
func TestLinksAreNotFollowed(t *testing.T) {
	dir, mine := foreignDir(t), t.TempDir()
	there, absent := filepath.Join(mine, "there"), filepath.Join(mine, "absent")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{there, absent} {
		link := filepath.Join(dir, filepath.Base(target))
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		for _, flag := range []int{os.O_CREATE, os.O_CREATE | os.O_TRUNC, 0} {
			if f, err := OpenFile(link, os.O_RDWR|flag, 0o600); err == nil {
				f.Close()
				t.Errorf("%s was followed to %s", link, target)
			}
		}
	}
	wantOwner(t, 0, there)
	if data, err := os.ReadFile(there); err != nil || string(data) != "mine" {
		t.Errorf("changed to %q, %v", data, err)
	}
	if _, err := os.Lstat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was made: %v", absent, err)
	}
}

func TestOwnDirectory(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFile(filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(Give(f, dir), f.Close(), GiveTree(dir), MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	wantOwner(t, uint32(os.Geteuid()), filepath.Join(dir, "f"), filepath.Join(dir, "a", "b"))
}
