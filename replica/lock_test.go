package replica

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tryReceive makes a copy with a Copier as another process has it.
func tryReceive(t *testing.T, src, dst string) error {
	t.Helper()
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = New().Send(t.Context(), here, src) // the receiver's error counts
		_ = here.Close()
	})
	_, err := New(Remember(time.Hour, 1<<20)).Receive(t.Context(), there, dst, ReceiveOptions{})
	_ = there.Close()
	wg.Wait()
	return err
}

// Of two that receive into one copy the second is told who the first is, and touches
// nothing.
func TestCopyIsLocked(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "above", "copy")
	write(t, filepath.Join(src, "f"), "content")
	if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
		t.Fatal(err)
	}
	side := &beside{dir: dst}
	unlock, err := side.lock()
	if err != nil {
		t.Fatal(err)
	}
	err = tryReceive(t, src, dst)
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("process %d receives into it", os.Getpid())) {
		t.Errorf("while it is locked: %v", err)
	}
	if _, err := os.Lstat(dst); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy is there: %v", err)
	}
	unlock()
	if err := tryReceive(t, src, dst); err != nil {
		t.Errorf("when it is free: %v", err)
	}
	if left, _ := filepath.Glob(dst + ".lock"); left != nil {
		t.Errorf("the lock stayed: %s", left)
	}
	// One that was killed leaves the file, and no lock.
	write(t, dst+".lock", "4711")
	if err := tryReceive(t, src, dst); err != nil {
		t.Errorf("with a lock that nobody has: %v", err)
	}
}

// A first copy that fails leaves no lock, nor the directories that it made for it.
func TestLockOfACopyThatFails(t *testing.T) {
	base := t.TempDir()
	dst := filepath.Join(base, "above", "copy")
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		w := newWire(here)
		if err := accept(w); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(dst + ".lock"); err != nil {
			t.Errorf("it is not locked: %v", err)
		}
		_ = here.Close()
	}()
	if _, err := New(Remember(time.Hour, 1<<20)).Receive(t.Context(), there, dst, ReceiveOptions{}); err == nil {
		t.Fatal("there is a copy of nothing")
	}
	if left, _ := filepath.Glob(filepath.Join(base, "*")); left != nil {
		t.Errorf("it leaves %s", left)
	}
}

// However many try at once, one at a time has it.
func TestLockExcludes(t *testing.T) {
	side := &beside{dir: filepath.Join(t.TempDir(), "copy")}
	var wg sync.WaitGroup
	var inside atomic.Int32
	for range 8 {
		wg.Go(func() {
			for range 200 {
				unlock, err := side.lock()
				if errors.Is(err, ErrBusy) {
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have the lock at once", n)
				}
				runtime.Gosched()
				inside.Add(-1)
				unlock()
			}
		})
	}
	wg.Wait()
}
