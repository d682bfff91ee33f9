package replica

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/internal/testenv"
)

// asUser runs f with the rights of another user in all that concerns files.
func asUser(t *testing.T, uid int, f func()) {
	t.Helper()
	runtime.LockOSThread() // and it ends with the goroutine, if it cannot be undone
	if _, err := unix.SetfsuidRetUid(uid); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := unix.SetfsuidRetUid(os.Geteuid()); err != nil {
			t.Error(err)
			return
		}
		runtime.UnlockOSThread()
	}()
	f()
}

// Where the owner cannot be set, there are no set-ID bits either, not even those
// that the file had: they always come after the owner.
func TestSetIDComesAfterTheOwner(t *testing.T) {
	testenv.NeedRoot(t)
	const nobody = 65534
	for name, mode := range map[string]os.FileMode{"fresh": 0o600, "in place": 0o755 | os.ModeSetuid | os.ModeSetgid} {
		t.Run(name, func(t *testing.T) {
			base, err := os.MkdirTemp("", "budgie-dress-") // nobody may go there
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(base)
			path := filepath.Join(base, "f")
			write(t, path, "1")
			for _, p := range []string{base, path} {
				if err := os.Chown(p, nobody, nobody); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			root, err := openRoot(base)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			copied := newTarget(root)
			copied.keeps = keepOwners | keepSetID
			e := file("f", "1")
			e.mode, e.owner = 0o6755, owner{uid: 1, gid: 1, known: true}
			asUser(t, nobody, func() {
				if name == "in place" {
					err = copied.redress(e, found{entry: entry{path: "f", kind: kindFile, mode: modeOf(mode), owner: owner{nobody, nobody, true}}})
					return
				}
				var f *os.File
				if f, err = os.OpenFile(path, os.O_RDWR, 0); err == nil {
					err = copied.dress(f, "f", e)
					_ = f.Close()
				}
			})
			if err == nil || !strings.Contains(err.Error(), "giving it to 1:1") {
				t.Errorf("the error does not say what cannot be done: %v", err)
			}
			if info, err := os.Stat(path); err != nil || modeOf(info.Mode())&(modeSetUID|modeSetGID) != 0 {
				t.Errorf("%v, %v: set-ID with a wrong owner", info.Mode(), err)
			}
		})
	}
}

// mountEnv makes a test run as a process with mounts of its own.
const mountEnv = "BUDGIE_TEST_MOUNT"

// ownMounts reports whether the test may mount what it likes. Where it may not, it
// has been run as a process that may.
func ownMounts(t *testing.T) bool {
	t.Helper()
	testenv.NeedRoot(t)
	if os.Getenv(mountEnv) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mountEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// What a file system cannot hold is left out and told of, and the copy verified.
func TestFileSystemWithoutAttributes(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	src, dst := t.TempDir(), t.TempDir()
	for i, name := range []string{"a", "b", "c"} {
		write(t, filepath.Join(src, name), name)
		if err := unix.Setxattr(filepath.Join(src, name), "user.a", []byte{byte(i)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(filepath.Join(src, "b"), aclAccess, []byte(probes[aclAccess]), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(src, "c"), 7, 8); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("ramfs", dst, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dst, 0)
	here, there := net.Pipe()
	type outcome struct {
		report Report
		err    error
	}
	sent := make(chan outcome)
	go func() {
		report, err := New().Send(t.Context(), here, src)
		sent <- outcome{report, err}
	}()
	received, err := New().Receive(t.Context(), there, dst, ReceiveOptions{})
	s := <-sent
	if err != nil || s.err != nil {
		t.Fatal(err, s.err)
	}
	want := []string{`user attributes: of 3 entries, first "a"`, `access control lists: of "b"`}
	if !slices.Equal(received.NotKept, want) || !slices.Equal(s.report.NotKept, want) {
		t.Errorf("NotKept is %q and %q, want %q", s.report.NotKept, received.NotKept, want)
	}
	info, err := os.Stat(filepath.Join(dst, "c"))
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := statOf(info); o != (owner{7, 8, true}) {
		t.Errorf("c belongs to %v", o)
	}
}

// A file system that is mounted inside the volume is part of it.
func TestMountedInsideIsCarried(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write(t, filepath.Join(src, "inside", "hidden"), "below the mount")
	if err := unix.Mount("tmpfs", filepath.Join(src, "inside"), "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(filepath.Join(src, "inside"), 0)
	write(t, filepath.Join(src, "inside", "a"), "1")
	if err := os.Link(filepath.Join(src, "inside", "a"), filepath.Join(src, "inside", "b")); err != nil {
		t.Fatal(err)
	}
	sendErr, receiveErr := copyBetween(t, New(), src, dst)
	if sendErr != nil || receiveErr != nil {
		t.Fatal(sendErr, receiveErr)
	}
	a, err := os.Stat(filepath.Join(dst, "inside", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.Stat(filepath.Join(dst, "inside", "b")); err != nil || !os.SameFile(a, b) {
		t.Errorf("the names are not one file: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dst, "inside", "hidden")); err == nil {
		t.Error("what the mount hides was copied")
	}
}

// A file that its owner may not read, in the copy of one who is not root, is read once,
// and again when something was done to it.
func TestUnlockedFilesAreRemembered(t *testing.T) {
	testenv.NeedRoot(t) // to be somebody else
	const nobody = 65534
	base, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	name := filepath.Join(base, "f")
	write(t, name, "content")
	old := time.Now().Add(-time.Hour)
	if err := errors.Join(os.Chown(base, nobody, nobody), os.Chown(name, nobody, nobody), os.Chtimes(name, old, old), os.Chmod(name, 0)); err != nil {
		t.Fatal(err)
	}
	root, err := openRoot(base)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := &scanner{root: root, known: make(map[string]*hashed), unlock: true, keeps: keepAll}
	read := func() (again bool) {
		before := s.learned
		asUser(t, nobody, func() {
			if _, err := s.scan(t.Context()); err != nil {
				t.Error(err)
			}
		})
		return s.learned > before
	}
	for times := 1; read(); times++ {
		if times > 3 {
			t.Fatal("it is read again and again")
		}
		<-time.After(quiet + quiet/5) // it is left alone
	}
	write(t, name, "CONTENT")
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	if !read() {
		t.Error("what was written into it is not seen")
	}
}
