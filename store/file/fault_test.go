package file

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

var errInjected = errors.New("injected fault")

// faultDisk writes as osDisk does, remembers the steps, and fails at one.
type faultDisk struct {
	osDisk
	mu    sync.Mutex
	steps []string
	// at is the step that fails, with err; empty for none.
	at  string
	err error
	// dead makes every step fail after the first failure, as if the process
	// had ended there.
	dead, died bool
	// onRename, where it is not nil, is called before each rename.
	onRename func()
}

// step returns the error of a step.
func (d *faultDisk) step(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps = append(d.steps, name)
	if d.died || name == d.at {
		d.died = d.dead
		return d.err
	}
	return nil
}

func (d *faultDisk) fail(at string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.err, d.steps = at, err, nil
}

func (d *faultDisk) took() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.steps)
}

func (d *faultDisk) Create(path string) (diskFile, error) {
	if err := d.step("create"); err != nil {
		return nil, err
	}
	f, err := d.osDisk.Create(path)
	if err != nil {
		return nil, err
	}
	return &faultFile{f, d}, nil
}

func (d *faultDisk) Rename(from, to string) error {
	d.mu.Lock()
	onRename := d.onRename
	d.mu.Unlock()
	if onRename != nil {
		onRename()
	}
	if err := d.step("rename"); err != nil {
		return err
	}
	return d.osDisk.Rename(from, to)
}

func (d *faultDisk) SyncDir(dir string) error {
	if err := d.step("sync dir"); err != nil {
		return err
	}
	return d.osDisk.SyncDir(dir)
}

func (d *faultDisk) Remove(path string) error {
	if err := d.step("remove"); err != nil {
		return err
	}
	return d.osDisk.Remove(path)
}

type faultFile struct {
	diskFile
	d *faultDisk
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.d.step("write"); err != nil {
		n, _ := f.diskFile.Write(p[:len(p)/2])
		return n, err
	}
	return f.diskFile.Write(p)
}

func (f *faultFile) Sync() error {
	if err := f.d.step("sync"); err != nil {
		return err
	}
	return f.diskFile.Sync()
}

func (f *faultFile) Close() error {
	err := f.diskFile.Close()
	if err := f.d.step("close"); err != nil {
		return err
	}
	return err
}

// openFaulty opens a store with one record on a disk that can fail.
func openFaulty(t *testing.T) (*Store, *faultDisk, lifecycle.Container) {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	d := &faultDisk{}
	s.disk = d
	c, err := s.Put(t.Context(), lifecycle.Container{ID: "aa", Name: "a", Reason: "before"})
	if err != nil {
		t.Fatal(err)
	}
	return s, d, c
}

// wantState checks what the store, and one opened anew, have for a record.
func wantState(t *testing.T, s *Store, want lifecycle.Container) {
	t.Helper()
	fresh, err := Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	for _, st := range []*Store{s, fresh} {
		if got, err := st.Get(t.Context(), want.ID); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("want %+v, got %+v, %v", want, got, err)
		}
	}
	if _, err := os.Lstat(s.statePath + tempSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file is left: %v", err)
	}
}

// The order is what makes a crash harmless: the content is on the disk before
// it has the name, and the name before Put returns.
func TestStepsOfAWrite(t *testing.T) {
	s, d, c := openFaulty(t)
	d.fail("", nil)
	if _, err := s.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got, want := d.took(), []string{"create", "write", "sync", "close", "rename", "sync dir"}; !slices.Equal(got, want) {
		t.Errorf("a write took the steps %q, want %q", got, want)
	}
}

func TestFailingStepLeavesTheOldState(t *testing.T) {
	for _, step := range []string{"create", "write", "sync", "close", "rename"} {
		t.Run(step, func(t *testing.T) {
			s, d, c := openFaulty(t)
			d.fail(step, errInjected)
			next := c
			next.Reason = "after"
			_, err := s.Put(t.Context(), next)
			if !errors.Is(err, errInjected) || !strings.Contains(err.Error(), s.statePath) {
				t.Errorf("Put: want the injected error and the path, got %v", err)
			}
			if err := s.Delete(t.Context(), c.ID, c.Revision); !errors.Is(err, errInjected) {
				t.Errorf("Delete: want the injected error, got %v", err)
			}
			if _, err := os.Lstat(s.statePath + tempSuffix); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the temporary file is left: %v", err)
			}
			wantState(t, s, c)
			d.fail("", nil)
			stored, err := s.Put(t.Context(), next)
			if err != nil {
				t.Fatalf("Put after the fault is gone: %v", err)
			}
			wantState(t, s, stored)
		})
	}
}

// After the rename the new state is in sight and stays so; the caller learns
// that it may not last.
func TestFailingDirectorySync(t *testing.T) {
	s, d, c := openFaulty(t)
	d.fail("sync dir", errInjected)
	next := c
	next.Reason = "after"
	_, err := s.Put(t.Context(), next)
	if _, ok := errors.AsType[*unsureError](err); !ok || !errors.Is(err, errInjected) {
		t.Errorf("Put: want an unsure error with the injected one, got %v", err)
	}
	d.fail("", nil)
	if _, err := s.Put(t.Context(), next); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Put of the same again: want a conflict with the first, got %v", err)
	}
	next.Revision = c.Revision + 1
	wantState(t, s, next)
}

// A process that ends at a step, before it can tidy up, leaves the old state.
func TestDyingAtAStep(t *testing.T) {
	for _, step := range []string{"create", "write", "sync", "close", "rename"} {
		t.Run(step, func(t *testing.T) {
			s, d, c := openFaulty(t)
			d.dead = true
			d.fail(step, errInjected)
			next := c
			next.Reason = "after"
			if _, err := s.Put(t.Context(), next); !errors.Is(err, errInjected) {
				t.Errorf("Put: want the injected error, got %v", err)
			}
			_, err := os.Lstat(s.statePath + tempSuffix)
			if left := err == nil; left != (step != "create") {
				t.Errorf("temporary file left: %v", left)
			}
			wantState(t, s, c)
		})
	}
}

func TestFullDiskSaysWhatToDo(t *testing.T) {
	s, d, c := openFaulty(t)
	d.fail("write", &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})
	_, err := s.Put(t.Context(), c)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("Put on a full disk: %v", err)
	}
	wantState(t, s, c)
}
