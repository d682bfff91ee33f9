package replica

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/internal/testenv"
)

// What its owner may not read has to be unlocked, and its access control list is
// another as long as that lasts.
func TestListsOfWhatMayNotBeRead(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write(t, filepath.Join(src, "dir", "file"), "1")
	dir := filepath.Join(src, "dir")
	if err := unix.Setxattr(dir, aclAccess, []byte(probes[aclAccess]), 0); err != nil {
		testenv.Skip(t, "needs a file system with access control lists: "+err.Error())
	}
	for _, mode := range []os.FileMode{0o751, 0o351, 0o310, 0o777} {
		if os.Geteuid() != 0 {
			mode |= 0o500 // the sender changes nothing
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := errors.Join(copyBetween(t, New(), src, dst)); err != nil {
				t.Fatalf("mode %o: %v", mode, err)
			}
		}
	}
}

func TestListsSayWhatModesSay(t *testing.T) {
	for _, list := range []string{"", "short", probes[aclAccess] + "x"} {
		if got := withMode(list, 0o123); got != list {
			t.Errorf("%q became %q", list, got)
		}
	}
	for name, c := range map[string]struct{ list, want string }{
		"mask":    {"\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x07\x00\x01\x00\x00\x00\x04\x00\x07\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x07\x00\xff\xff\xff\xff", "\x02\x00\x00\x00\x01\x00\x01\x00\xff\xff\xff\xff\x02\x00\x07\x00\x01\x00\x00\x00\x04\x00\x07\x00\xff\xff\xff\xff\x10\x00\x02\x00\xff\xff\xff\xff\x20\x00\x03\x00\xff\xff\xff\xff"},
		"no mask": {"\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x07\x00\xff\xff\xff\xff\x20\x00\x07\x00\xff\xff\xff\xff", "\x02\x00\x00\x00\x01\x00\x01\x00\xff\xff\xff\xff\x04\x00\x02\x00\xff\xff\xff\xff\x20\x00\x03\x00\xff\xff\xff\xff"},
	} {
		if got := withMode(c.list, 0o123); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// Who may read a directory that is locked changes nothing of it, not even for a moment:
// whoever uses the copy would see that.
func TestLooksLeaveModesAlone(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "locked", "file"), "1")
	if err := os.Chmod(filepath.Join(dir, "locked"), 0); err != nil {
		t.Fatal(err)
	}
	stat := func() (st unix.Stat_t) {
		if err := unix.Lstat(filepath.Join(dir, "locked"), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	before := stat()
	root, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	all, err := (&scanner{root: root, known: make(map[string]*hashed), unlock: true}).scan(t.Context())
	if err != nil || len(all) != 3 {
		t.Errorf("%d entries, %v", len(all), err)
	}
	if after := stat(); after.Ctim != before.Ctim {
		t.Error("the directory was changed")
	}
}
