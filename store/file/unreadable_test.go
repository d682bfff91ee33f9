package file_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
	"github.com/budgiehq/budgie/store/file"
)

// filled returns a store with one record, and the path and text of its file.
func filled(t *testing.T) (s *file.Store, path string, text []byte) {
	t.Helper()
	s = open(t, t.TempDir())
	if _, err := s.Put(t.Context(), lifecycle.Container{ID: "aa", Name: "a"}); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(s.Dir(), "state.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return s, path, text
}

// wantRefused checks that a state file that cannot be read stops everything,
// with an error that says where and what to do.
func wantRefused(t *testing.T, s *file.Store, path string, want error) {
	t.Helper()
	_, gerr := s.Get(t.Context(), "aa")
	_, lerr := s.List(t.Context())
	_, perr := s.Put(t.Context(), lifecycle.Container{ID: "bb", Name: "b"})
	derr := s.Delete(t.Context(), "aa", 1)
	for what, err := range map[string]error{"Get": gerr, "List": lerr, "Put": perr, "Delete": derr} {
		if !errors.Is(err, want) {
			t.Errorf("%s: want %q, got %v", what, want, err)
		} else if text := err.Error(); !strings.Contains(text, path) || !strings.Contains(text, "move it away") {
			t.Errorf("%s: the error does not say where and what to do: %v", what, err)
		}
	}
}

func TestUnreadableIsNotOverwritten(t *testing.T) {
	_, _, good := filled(t)
	for name, c := range map[string]struct {
		text []byte
		want error
	}{
		"empty":     {nil, store.ErrCorrupt},
		"truncated": {good[:len(good)/2], store.ErrCorrupt},
		"garbage":   {[]byte("\x00\xff\x00garbage"), store.ErrCorrupt},
		"future":    {[]byte(`{"version": 99, "flocks": []}`), store.ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			s, path, good := filled(t)
			if err := os.WriteFile(path, c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			// Whoever has it open sees it, and so does whoever opens it.
			wantRefused(t, s, path, c.want)
			wantRefused(t, open(t, s.Dir()), path, c.want)
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, c.text) {
				t.Errorf("the file was changed: %q, %v", now, err)
			}
			// A good file in its place is all it takes.
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(t.Context(), "aa"); err != nil {
				t.Errorf("Get after the file was restored: %v", err)
			}
		})
	}
}

func TestMovedAwayStartsAnew(t *testing.T) {
	s, path, _ := filled(t)
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, s, path, store.ErrCorrupt)
	if err := os.Rename(path, path+".bad"); err != nil {
		t.Fatal(err)
	}
	// Not for whoever knows that there were containers, but for the next.
	wantGone(t, s, path)
	s = open(t, s.Dir())
	if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List: %v, %v", list, err)
	}
	if _, err := s.Put(t.Context(), lifecycle.Container{ID: "bb", Name: "b"}); err != nil {
		t.Errorf("Put: %v", err)
	}
}

// wantGone checks that a state file that is gone stops everything, and that
// nothing is made in its place.
func wantGone(t *testing.T, s *file.Store, path string) {
	t.Helper()
	_, gerr := s.Get(t.Context(), "aa")
	_, lerr := s.List(t.Context())
	_, perr := s.Put(t.Context(), lifecycle.Container{ID: "bb", Name: "b"})
	derr := s.Delete(t.Context(), "aa", 1)
	for what, err := range map[string]error{"Get": gerr, "List": lerr, "Put": perr, "Delete": derr} {
		if !errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		} else if text := err.Error(); !strings.Contains(text, path+" is gone; put it back") {
			t.Errorf("%s: the error does not say what to do: %v", what, err)
		}
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: taken for the end of the whole directory: %v", what, err)
		}
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("something was put in its place: %v", err)
	}
}

// A state that is moved away and back, as editors and people do who restore
// one, is missed and not taken for one without containers.
func TestMovedAwayAndBack(t *testing.T) {
	writer, path, _ := filled(t)
	reader := open(t, writer.Dir())
	if _, err := reader.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*file.Store{writer, reader} {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		wantGone(t, s, path)
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		if list, err := s.List(t.Context()); err != nil || len(list) != 1 {
			t.Errorf("List with the file back: %v, %v", list, err)
		}
	}
	if err := os.RemoveAll(writer.Dir()); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.List(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List without the directory: %v", err)
	}
}

// A rename would put a file in the place of an empty directory or a link
// without asking.
func TestNotAFileIsNotOverwritten(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink(path+".elsewhere", path) },
	} {
		t.Run(name, func(t *testing.T) {
			s, path, _ := filled(t)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			wantRefused(t, s, path, store.ErrCorrupt)
			if now, err := os.Lstat(path); err != nil || !os.SameFile(before, now) {
				t.Errorf("it was replaced: %v, %v", now, err)
			}
		})
	}
}

// Where the whole directory is gone, as after an unmount, nothing is known of
// the containers: that is not the same as that there are none.
func TestDirectoryGone(t *testing.T) {
	s, err := file.Open(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(t.Context()); err == nil || !strings.Contains(err.Error(), s.Dir()) {
		t.Errorf("List: want an error with the directory, got %v, %v", list, err)
	}
	if _, err := s.Put(t.Context(), lifecycle.Container{ID: "aa", Name: "a"}); err == nil {
		t.Error("Put: no error")
	}
	if _, err := s.Acquire(t.Context(), "a"); err == nil {
		t.Error("Acquire: no error")
	}
	if _, err := s.Watch(t.Context()); err == nil || !strings.Contains(err.Error(), s.Dir()) {
		t.Errorf("Watch: want an error with the directory, got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// Somebody may edit the file in place, with an editor that does not rename.
func TestEditedInPlace(t *testing.T) {
	s, path, text := filled(t)
	text = bytes.Replace(text, []byte(`"name": "a"`), []byte(`"name": "edited"`), 1)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := s.Get(t.Context(), "aa")
	if err != nil || c.Name != "edited" {
		t.Fatalf("Get: %q, %v", c.Name, err)
	}
	c.Restarts = 1
	if c, err = s.Put(t.Context(), c); err != nil || c.Name != "edited" {
		t.Errorf("Put: %q, %v", c.Name, err)
	}
}

// Neither size nor time tells two files apart: writes come faster than clocks
// of file systems tick, and many have the same size.
func TestReplacedByOneOfTheSameSizeAndTime(t *testing.T) {
	s, path, text := filled(t)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	next := path + ".next"
	if err := os.WriteFile(next, bytes.Replace(text, []byte(`"name": "a"`), []byte(`"name": "b"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(next, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Get(t.Context(), "aa"); err != nil || c.Name != "b" {
		t.Errorf("Get: %q, %v", c.Name, err)
	}
}
