package file_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store/file"
)

// mountTmpfs mounts a file system of its own for a test.
func mountTmpfs(t *testing.T, options string) (dir string) {
	t.Helper()
	testenv.NeedRoot(t)
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		testenv.Skip(t, fmt.Sprintf("cannot mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// A full disk stops writing, loses nothing, and needs no repair.
func TestFullDisk(t *testing.T) {
	s := open(t, mountTmpfs(t, "size=256k,mode=0700"))
	var stored []lifecycle.Container
	var full error
	for n := range 100 {
		c, err := s.Put(t.Context(), lifecycle.Container{
			ID: fmt.Sprintf("%064x", n), Name: fmt.Sprint("c", n), Reason: strings.Repeat("x", 10_000),
		})
		if err != nil {
			full = err
			break
		}
		stored = append(stored, c)
	}
	if !errors.Is(full, syscall.ENOSPC) || !strings.Contains(full.Error(), "free some space") || !strings.Contains(full.Error(), s.Dir()) {
		t.Errorf("Put on a full disk: %v", full)
	}
	fresh, err := file.Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range []*file.Store{s, fresh} {
		if list, err := st.List(t.Context()); err != nil || !reflect.DeepEqual(list, stored) {
			t.Errorf("List after a failed write: %d records, %v, want %d", len(list), err, len(stored))
		}
	}
	if err := fresh.Close(); err != nil { // it holds the file that it read
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(s.Dir(), "state.json.tmp")); !os.IsNotExist(err) {
		t.Errorf("the temporary file keeps the disk full: %v", err)
	}
	last := stored[len(stored)-1]
	if err := s.Delete(t.Context(), last.ID, last.Revision); err != nil {
		t.Fatalf("Delete on the full disk, which makes room: %v", err)
	}
	if _, err := s.Put(t.Context(), lifecycle.Container{ID: "small", Name: "small"}); err != nil {
		t.Errorf("Put when there is room again: %v", err)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := mountTmpfs(t, "size=1m,mode=0700")
	s := open(t, dir)
	c, err := s.Put(t.Context(), lifecycle.Container{ID: "aa", Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), c)
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "BUDGIE_DATA_DIR") {
		t.Errorf("Put: %v", err)
	}
	if got, err := s.Get(t.Context(), c.ID); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("Get: %+v, %v", got, err)
	}
	_, err = file.Open(dir)
	wantOpenAdvice(t, err, dir)
	_, err = file.Open(filepath.Join(dir, "new"))
	wantOpenAdvice(t, err, filepath.Join(dir, "new"))
}

// asPlainUser runs a child as a user without privileges and returns what it
// printed, its errors included. Root may do everything, so root becomes nobody.
func asPlainUser(t *testing.T, do, dir string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	if os.Geteuid() == 0 {
		cmd.Path = publicCopy(t, os.Args[0])
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), childEnv+"="+do, dirEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return string(out)
}

const nobody = 65534

// publicDir returns a directory that every user can reach.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "budgie-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func publicCopy(t *testing.T, path string) string {
	t.Helper()
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(publicDir(t), "child"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}

func TestDirectoryOfAnotherUser(t *testing.T) {
	for _, mode := range []os.FileMode{0o500, 0o700, 0o755, 0o777} {
		dir := filepath.Join(publicDir(t), "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		out := asPlainUser(t, "use", dir)
		if os.Geteuid() != 0 && mode != 0o500 {
			continue // it is this user's own
		}
		wantOpenAdvice(t, errors.New(out), dir)
		if os.Geteuid() == 0 && !strings.Contains(out, "it belongs to user root") {
			t.Errorf("Open with mode %o: %s", mode, out)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("Open with mode %o left %v, %v", mode, entries, err)
		}
	}
}

// Root working in a user's directory, as with sudo, does not lock the user out.
func TestRootInAnothersDirectory(t *testing.T) {
	testenv.NeedRoot(t)
	home := publicDir(t)
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fresh", "used"} {
		dir := filepath.Join(home, "above-"+name, "data")
		if name == "used" {
			if out := asPlainUser(t, "use", dir); !strings.Contains(out, "put: <nil>") {
				t.Fatalf("the user's own store: %s", out)
			}
		}
		s := open(t, dir)
		if _, err := s.Put(t.Context(), lifecycle.Container{ID: "bb", Name: "b"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Acquire(t.Context(), "root"); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(filepath.Dir(dir), func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if info, err := d.Info(); err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody {
				t.Errorf("%s: %s does not belong to the user: %v", name, path, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		put := "put: <nil>"
		if name == "used" {
			put = "is taken by container aa" // by the first time
		}
		if out := asPlainUser(t, "use", dir); !strings.Contains(out, "list: <nil>") || !strings.Contains(out, put) {
			t.Errorf("%s: the user after root: %s", name, out)
		}
	}
}

// A state that another user wrote into this one's directory, as sudo does.
func TestStateOfAnotherUser(t *testing.T) {
	dir := filepath.Join(publicDir(t), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state.json")
	if err := os.WriteFile(path, []byte(`{"version": 1}`), 0o000); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	out := asPlainUser(t, "use", dir)
	if strings.Count(out, path) < 2 || strings.Count(out, "run as the user who owns it") != 2 {
		t.Errorf("List and Put of a state that cannot be opened: %s", out)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != int64(len(`{"version": 1}`)) {
		t.Errorf("the file was changed: %v, %v", info, err)
	}
}
