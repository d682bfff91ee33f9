package file

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/lockfile"
	"github.com/budgiehq/budgie/store"
)

func TestWatchesShareOneWatcher(t *testing.T) {
	s, _, _ := openFaulty(t)
	if s.watcher != nil {
		t.Error("a store that nobody watches watches its directory")
	}
	if _, err := s.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := s.watcher
	if _, err := s.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first == nil || s.watcher != first {
		t.Error("the second Watch did not take the first one's watcher")
	}
}

// tick waits for a value.
func tick(t *testing.T, changes <-chan struct{}) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(20 * time.Second):
		t.Fatal("no value")
	}
}

// Whatever happens to the file, by whomever, is a change.
func TestWatchSeesTheFileReplacedAndRemoved(t *testing.T) {
	s, _, c := openFaulty(t)
	text, err := os.ReadFile(s.statePath)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	has := func(want error) {
		t.Helper()
		for {
			if _, err := s.Get(t.Context(), c.ID); errors.Is(err, want) {
				return
			}
			tick(t, changes)
		}
	}
	tick(t, changes)
	for range 3 {
		if err := os.Remove(s.statePath); err != nil {
			t.Fatal(err)
		}
		tick(t, changes)
		has(store.ErrCorrupt)
		if err := os.WriteFile(s.statePath+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.statePath+".new", s.statePath); err != nil {
			t.Fatal(err)
		}
		tick(t, changes)
		has(nil)
	}
	if err := os.WriteFile(s.statePath, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	tick(t, changes)
	has(store.ErrCorrupt)
}

// A change of this process does not depend on the file system's notice.
func TestOwnChangesTick(t *testing.T) {
	s, _, c := openFaulty(t)
	changes, ok := s.changes.Subscribe(t.Context()) // without a watcher
	if !ok {
		t.Fatal("closed")
	}
	tick(t, changes)
	c, err := s.Put(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	tick(t, changes)
	if err := s.Delete(t.Context(), c.ID, c.Revision); err != nil {
		t.Fatal(err)
	}
	tick(t, changes)
	if _, err := s.Put(t.Context(), c); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	if len(changes) != 0 {
		t.Error("a write that was refused counts as a change")
	}
}

// The gate being held by a suspended process must not keep a name from being
// freed.
func TestReleaseWithoutTheGate(t *testing.T) {
	var log strings.Builder
	s, err := Open(t.TempDir(), WithLogger(nil), WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	release, err := s.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	gate, ok, err := lockfile.Try(s.owners.gate)
	if err != nil || !ok {
		t.Fatalf("lock the gate: %v, %v", ok, err)
	}
	if err := release(); err != nil {
		t.Errorf("release: %v", err)
	}
	if !strings.Contains(log.String(), "owner=a") {
		t.Errorf("not logged: %q", log.String())
	}
	if err := gate.Unlock(); err != nil {
		t.Fatal(err)
	}
	if alive, err := s.Alive(t.Context(), "a"); alive || err != nil {
		t.Errorf("Alive after release: %v, %v", alive, err)
	}
}
