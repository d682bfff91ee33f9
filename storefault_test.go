package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
)

// fullStore is a store whose disk can be full.
type fullStore struct {
	*memory.Store
	full atomic.Bool
	// refuse, if set, refuses a record once.
	refuse  func(lifecycle.Container) bool
	refused atomic.Bool
}

var errFull = errors.New("no space left on device")

func (s *fullStore) Put(ctx context.Context, c lifecycle.Container) (lifecycle.Container, error) {
	if s.full.Load() || s.refuse != nil && s.refuse(c) && !s.refused.Swap(true) {
		return lifecycle.Container{}, errFull
	}
	return s.Store.Put(ctx, c)
}

func newFullStore(t *testing.T) (*fullStore, *runtimetest.Fake, *budgie.Client) {
	t.Helper()
	s := &fullStore{Store: memory.New()}
	fake := runtimetest.NewFake()
	c, err := budgie.New(budgie.WithStore(s), budgie.WithRuntime(fake), budgie.WithoutDiscovery(), budgie.WithLoopback(), budgie.WithDataDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		fake.Shutdown()
		_ = s.Close()
	})
	return s, fake, c
}

func TestFullDiskRefusesToRun(t *testing.T) {
	s, fake, c := newFullStore(t)
	s.full.Store(true)
	if _, err := c.Run(t.Context(), web("web")); !errors.Is(err, errFull) {
		t.Fatalf("got %v", err)
	}
	if list, err := fake.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the runtime has %v, %v", list, err)
	}
}

// A disk that is full for a while loses no restart.
func TestFullDiskForAWhile(t *testing.T) {
	s, fake, c := newFullStore(t)
	rec, err := c.Run(t.Context(), always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	s.full.Store(true)
	if err := fake.Crash(rec.ID, 1); err != nil {
		t.Fatal(err)
	}
	s.full.Store(false)
	eventually(t, c, "web", "the restart", func(r lifecycle.Container) bool { return r.Restarts == 1 && r.Ready })
}

// A full disk does not keep a program from ending its containers.
func TestFullDiskAtTheEnd(t *testing.T) {
	s, fake, c := newFullStore(t)
	rec, err := c.Run(t.Context(), always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	s.full.Store(true)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := fake.Status(t.Context(), rec.ID); err != nil || st.State != lifecycle.Stopped {
		t.Fatalf("after Close the runtime says %+v, %v", st, err)
	}
}

// What was seen while the store failed is stored as soon as it works again.
func TestNothingSeenIsLost(t *testing.T) {
	t.Run("readiness", func(t *testing.T) {
		s, _, c := newFullStore(t)
		s.refuse = func(r lifecycle.Container) bool { return r.Ready }
		spec := web("web")
		spec.Healthcheck = nil // whose probes end with the first success
		if rec, err := c.Run(t.Context(), spec); err != nil || !rec.Ready || !s.refused.Load() {
			t.Fatalf("%+v, %v", rec, err)
		}
	})
	t.Run("end", func(t *testing.T) {
		s, fake, c := newFullStore(t)
		s.refuse = func(r lifecycle.Container) bool { return r.Exit != nil }
		rec, err := c.Run(t.Context(), always(web("web")))
		if err != nil {
			t.Fatal(err)
		}
		if err := fake.Crash(rec.ID, 1); err != nil {
			t.Fatal(err)
		}
		eventually(t, c, "web", "the restart", func(r lifecycle.Container) bool { return r.Restarts == 1 && r.Ready })
		if !s.refused.Load() {
			t.Error("nothing was refused")
		}
	})
	t.Run("last end", func(t *testing.T) {
		s, fake, c := newFullStore(t)
		s.refuse = func(r lifecycle.Container) bool { return r.Exit != nil }
		rec, err := c.Run(t.Context(), web("web"))
		if err != nil {
			t.Fatal(err)
		}
		if err := fake.Crash(rec.ID, 3); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Wait(t.Context(), rec.ID); err != nil || got.Exit == nil || got.Exit.Code != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

// filesMissing is a runtime that for some calls misses a file when it is to stop.
type filesMissing struct {
	*runtimetest.Fake
	calls atomic.Int32
}

// Stop implements budgie.Runtime.
func (r *filesMissing) Stop(ctx context.Context, id string, grace time.Duration) error {
	if r.calls.Add(-1) >= 0 {
		return fmt.Errorf("a file of the runtime's: %w", fs.ErrNotExist)
	}
	return r.Fake.Stop(ctx, id, grace)
}

// A file that the runtime misses is not the container's record: what is to be done is
// tried again, and stored.
func TestMissingFileOfARuntime(t *testing.T) {
	r := &filesMissing{Fake: runtimetest.NewFake()}
	c, err := budgie.New(budgie.WithStore(memory.New()), budgie.WithRuntime(r), budgie.WithoutDiscovery(), budgie.WithLoopback(), budgie.WithDataDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		r.Shutdown()
	})
	rec, err := c.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	r.calls.Store(4) // each stop is tried twice at once
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Stop(ctx, rec.ID); err != nil {
		t.Fatal(err)
	}
	if rec, err = c.Wait(ctx, rec.ID); err != nil || rec.State != lifecycle.Stopped {
		t.Errorf("it is %s, %v", rec.State, err)
	}
}
