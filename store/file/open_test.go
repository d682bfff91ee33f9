package file_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store/file"
)

func TestOpenCreatesPrivateDirectories(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes; access is inherited from the user's directory")
	}
	top := filepath.Join(t.TempDir(), "a")
	dir := filepath.Join(top, "b", "c")
	s := open(t, dir)
	if _, err := s.Put(t.Context(), lifecycle.Container{ID: "aa", Name: "a"}); err != nil {
		t.Fatal(err)
	}
	release, err := s.Acquire(t.Context(), "me")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	files := 0
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("looked at %d files: %v", files, err)
	}
}

func TestDirIsAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "data")
	if !filepath.IsAbs(s.Dir()) || filepath.Base(s.Dir()) != "data" {
		t.Errorf("Dir: %q", s.Dir())
	}
	// The store stays where it was opened.
	t.Chdir(t.TempDir())
	if _, err := s.Put(t.Context(), lifecycle.Container{ID: "aa", Name: "a"}); err != nil {
		t.Error(err)
	}
}

func wantOpenAdvice(t *testing.T, err error, dir string) {
	t.Helper()
	if err == nil {
		t.Fatal("Open: no error")
	}
	for _, want := range []string{dir, "BUDGIE_DATA_DIR"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %s: %v", want, err)
		}
	}
}

func TestOpenWhereAFileIs(t *testing.T) {
	blocking := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocking, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{blocking, filepath.Join(blocking, "below")} {
		_, err := file.Open(dir)
		wantOpenAdvice(t, err, dir)
	}
	if text, err := os.ReadFile(blocking); err != nil || string(text) != "mine" {
		t.Errorf("the file was changed: %q, %v", text, err)
	}
}

func TestOpenRemovesTheTemporaryFileOfACrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(dir, "state.json.tmp")
	if err := os.WriteFile(temp, []byte(`{"version": 1, "rev`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if _, err := os.Lstat(temp); !os.IsNotExist(err) {
		t.Errorf("Open left %s: %v", temp, err)
	}
	// One that comes later is in nobody's way either.
	if err := os.WriteFile(temp, []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), lifecycle.Container{ID: "aa", Name: "a"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(temp); !os.IsNotExist(err) {
		t.Errorf("Put left %s: %v", temp, err)
	}
}
