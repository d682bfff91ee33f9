package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/budgiehq/budgie/store"
)

// owners tests Acquire and Alive.
func (s *suite) owners() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"AcquireRelease": s.testAcquireRelease,
		"Names":          s.testOwnerNames,
		"OneWins":        s.testOneAcquires,
		"LookedAt":       func(t *testing.T) { st := s.store(t); lookedAt(t, st, st) },
		"ReleaseTwice":   s.testReleaseTwice,
	}
}

// acquire takes an owner name that must be free.
func acquire(t testing.TB, st Store, owner string) (release func()) {
	t.Helper()
	f, err := st.Acquire(t.Context(), owner)
	if err != nil {
		t.Fatalf("Acquire(%s): %v", owner, err)
	}
	return func() {
		t.Helper()
		if err := f(); err != nil {
			t.Errorf("release of %s: %v", owner, err)
		}
	}
}

func wantAlive(t testing.TB, st Store, owner string, want bool) {
	t.Helper()
	if got, err := st.Alive(t.Context(), owner); err != nil || got != want {
		t.Errorf("Alive(%s): want %v, got %v, %v", owner, want, got, err)
	}
}

func (s *suite) testAcquireRelease(t *testing.T) {
	st := s.store(t)
	wantAlive(t, st, "a", false)
	release := acquire(t, st, "a")
	acquire(t, st, "b")
	for range 3 { // looking changes nothing
		wantAlive(t, st, "a", true)
		_, err := st.Acquire(t.Context(), "a")
		wantError(t, "Acquire of a held name", err, store.ErrOwned)
		if err != nil && !strings.Contains(err.Error(), " a:") {
			t.Errorf("the error does not say which name: %v", err)
		}
	}
	release()
	wantAlive(t, st, "a", false)
	wantAlive(t, st, "b", true)
	release = acquire(t, st, "a")
	wantAlive(t, st, "a", true)
	release()
}

func (s *suite) testOwnerNames(t *testing.T) {
	st := s.store(t)
	for _, good := range []string{"a", "-", "Supervisor-01", strings.Repeat("x", store.MaxOwnerLen)} {
		release := acquire(t, st, good)
		wantAlive(t, st, good, true)
		release()
	}
	for _, bad := range []string{"", ".", "..", "a/b", "../a", `a\b`, "a.lock", "a b", "a\x00", "ä", "a\n", strings.Repeat("x", store.MaxOwnerLen+1)} {
		_, err := st.Acquire(t.Context(), bad)
		wantError(t, "Acquire of "+bad, err, store.ErrInvalid)
		_, err = st.Alive(t.Context(), bad)
		wantError(t, "Alive of "+bad, err, store.ErrInvalid)
	}
}

// Of many who want a name at once exactly one gets it, again and again.
func (s *suite) testOneAcquires(t *testing.T) {
	st := s.store(t)
	for range 10 {
		var mu sync.Mutex
		var releases []func() error
		together(t, 8, func(int) error {
			release, err := st.Acquire(t.Context(), "wanted")
			if errors.Is(err, store.ErrOwned) {
				return nil
			} else if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			releases = append(releases, release)
			return nil
		})
		if len(releases) != 1 {
			t.Fatalf("%d of 8 acquired the name", len(releases))
		}
		if err := releases[0](); err != nil {
			t.Fatal(err)
		}
	}
}

// lookedAt tests that nobody who looks makes a name seem held: while others
// look, taking a free name works every time, and a held one is alive to all.
func lookedAt(t *testing.T, st, other Store) {
	ctx, stop := context.WithCancel(t.Context())
	// round is odd while the name is surely held.
	var round atomic.Int64
	var lookers sync.WaitGroup
	for range 4 {
		lookers.Go(func() {
			for ctx.Err() == nil {
				before := round.Load()
				alive, err := other.Alive(t.Context(), "looked-at")
				if err != nil || !alive && before%2 == 1 && round.Load() == before {
					t.Errorf("Alive: %v, %v while the name is held", alive, err)
					return
				}
			}
		})
	}
	for range 50 {
		release, err := st.Acquire(t.Context(), "looked-at")
		if err != nil {
			t.Errorf("Acquire of a free name that others look at: %v", err)
			break
		}
		round.Add(1)
		wantAlive(t, other, "looked-at", true)
		round.Add(1)
		if err := release(); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	stop()
	lookers.Wait()
}

// A release that comes twice does not take the name from its next holder.
func (s *suite) testReleaseTwice(t *testing.T) {
	st := s.store(t)
	release := acquire(t, st, "a")
	release()
	acquire(t, st, "a")
	release()
	wantAlive(t, st, "a", true)
}
