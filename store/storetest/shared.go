package storetest

import (
	"context"
	"reflect"
	"testing"

	"github.com/budgiehq/budgie/store"
)

// shared tests what one value sees of another on the same data.
func (s *suite) shared() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"Reads":     s.testSharedReads,
		"Conflict":  s.testSharedConflict,
		"NoneLost":  s.testSharedNoUpdateLost,
		"Revisions": s.testSharedRevisions,
		"Watch":     s.testSharedWatch,
		"Owners":    s.testSharedOwners,
		"LookedAt":  func(t *testing.T) { first, second := s.pair(t); lookedAt(t, first, second) },
		"CloseFree": s.testSharedCloseFrees,
		"Outlives":  s.testSharedOutlives,
	}
}

func (s *suite) testSharedReads(t *testing.T) {
	first, second := s.pair(t)
	if list, err := second.List(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("List: %v, %v", list, err)
	}
	c := put(t, first, container(1))
	// As soon as Put has returned, not some time later; and again and again,
	// so that whoever remembers what was read is found out.
	for range 20 {
		if got := get(t, second, c.ID); !reflect.DeepEqual(got, c) {
			t.Fatalf("the other value has revision %d, want %d", got.Revision, c.Revision)
		}
		c.Restarts++
		c = put(t, first, c)
		first, second = second, first
	}
	if err := first.Delete(t.Context(), c.ID, c.Revision); err != nil {
		t.Fatal(err)
	}
	_, err := second.Get(t.Context(), c.ID)
	wantError(t, "Get of what the other deleted", err, store.ErrNotFound)
}

func (s *suite) testSharedConflict(t *testing.T) {
	first, second := s.pair(t)
	c := put(t, first, container(1))
	mine, theirs := c, get(t, second, c.ID)
	put(t, second, theirs)
	_, err := first.Put(t.Context(), mine)
	wantError(t, "Put of what the other changed", err, store.ErrConflict)
	wantError(t, "Delete of what the other changed", first.Delete(t.Context(), c.ID, c.Revision), store.ErrConflict)
	_, err = second.Put(t.Context(), container(1))
	wantExists(t, "Put of what the other created", err, c)
}

// Revisions grow over what the other value deletes, and over a store that has
// become empty, also for a value that is opened then and remembers nothing.
func (s *suite) testSharedRevisions(t *testing.T) {
	first, second := s.pair(t)
	var last uint64
	for i := range 4 {
		c := put(t, first, container(1))
		if c.Revision <= last {
			t.Fatalf("revision %d after %d: they must grow", c.Revision, last)
		}
		if err := second.Delete(t.Context(), c.ID, c.Revision); err != nil {
			t.Fatal(err)
		}
		last = c.Revision + 1 // at least: the deletion's
		first, second = second, first
		if i%2 == 1 {
			third := s.again(t, first)
			t.Cleanup(func() { closeStore(t, third) })
			first = third
		}
	}
}

func (s *suite) testSharedNoUpdateLost(t *testing.T) {
	first, second := s.pair(t)
	c := container(1)
	c.Restarts = 0
	put(t, first, c)
	const goroutines = 32
	ctx := deadline(t)
	together(t, goroutines, func(i int) error {
		if i%2 == 0 {
			return increment(ctx, first, c.ID)
		}
		return increment(ctx, second, c.ID)
	})
	for _, st := range []Store{first, second} {
		if got := get(t, st, c.ID).Restarts; got != goroutines {
			t.Errorf("%d increments gave %d", goroutines, got)
		}
	}
}

func (s *suite) testSharedWatch(t *testing.T) {
	first, second := s.pair(t)
	changes := watch(t, second)
	c := put(t, first, container(1))
	for range 10 {
		c.Restarts++
		c = put(t, first, c)
		until(t, changes, "a change by the other value", func() bool {
			got, err := second.Get(t.Context(), c.ID)
			return err == nil && got.Revision == c.Revision
		})
	}
	if err := first.Delete(t.Context(), c.ID, c.Revision); err != nil {
		t.Fatal(err)
	}
	until(t, changes, "a deletion by the other value", func() bool {
		list, err := second.List(t.Context())
		return err == nil && len(list) == 0
	})
}

func (s *suite) testSharedOwners(t *testing.T) {
	first, second := s.pair(t)
	release := acquire(t, first, "a")
	wantAlive(t, second, "a", true)
	_, err := second.Acquire(t.Context(), "a")
	wantError(t, "Acquire of what the other holds", err, store.ErrOwned)
	release()
	wantAlive(t, second, "a", false)
	acquire(t, second, "a")
	wantAlive(t, first, "a", true)
}

func (s *suite) testSharedCloseFrees(t *testing.T) {
	first, second := s.pair(t)
	acquire(t, first, "a")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	wantAlive(t, second, "a", false)
	acquire(t, second, "a")
}

// The data is there for a value that is opened when all others are closed.
func (s *suite) testSharedOutlives(t *testing.T) {
	first := s.store(t)
	c := put(t, first, container(1))
	gone := put(t, first, container(2))
	if err := first.Delete(t.Context(), gone.ID, gone.Revision); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := s.again(t, first)
	t.Cleanup(func() { closeStore(t, second) })
	if got := get(t, second, c.ID); !reflect.DeepEqual(got, c) {
		t.Errorf("want %+v, got %+v", c, got)
	}
	if next := put(t, second, container(3)); next.Revision <= gone.Revision {
		t.Errorf("revision %d after %d: revisions must grow for ever", next.Revision, gone.Revision)
	}
	if _, err := second.Get(context.Background(), gone.ID); err == nil {
		t.Error("a deleted record came back")
	}
}
