package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// updates tests operations that compete.
func (s *suite) updates() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"NoneLost":      s.testNoUpdateLost,
		"OneCreates":    s.testOneCreates,
		"OneDeletes":    s.testOneDeletes,
		"ManyWriters":   s.testManyWriters,
		"WholeStates":   s.testWholeStates,
		"RevisionsOnce": s.testRevisionsOnce,
	}
}

// increment counts one in a record, through store.Modify.
func increment(ctx context.Context, st Store, id string) error {
	_, err := store.Modify(ctx, st, id, func(c *lifecycle.Container) error {
		c.Restarts++
		return nil
	})
	return err
}

// together calls f n times concurrently and reports the errors.
func together(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func (s *suite) testNoUpdateLost(t *testing.T) {
	st := s.store(t)
	c := container(1)
	c.Restarts = 0
	put(t, st, c)
	const goroutines = 64
	ctx := deadline(t)
	together(t, goroutines, func(int) error { return increment(ctx, st, c.ID) })
	if got := get(t, st, c.ID).Restarts; got != goroutines {
		t.Errorf("%d increments gave %d", goroutines, got)
	}
}

func (s *suite) testOneCreates(t *testing.T) {
	st := s.store(t)
	var created atomic.Int32
	together(t, 16, func(i int) error {
		c := container(i)
		c.Name = "the-name"
		_, err := st.Put(t.Context(), c)
		if err == nil {
			created.Add(1)
		} else if !errors.Is(err, store.ErrExists) {
			return err
		}
		return nil
	})
	if n := created.Load(); n != 1 {
		t.Errorf("%d records were created under one name", n)
	}
}

func (s *suite) testOneDeletes(t *testing.T) {
	st := s.store(t)
	c := put(t, st, container(1))
	var deleted atomic.Int32
	together(t, 16, func(int) error {
		err := st.Delete(t.Context(), c.ID, c.Revision)
		if err == nil {
			deleted.Add(1)
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	})
	if n := deleted.Load(); n != 1 {
		t.Errorf("one record was deleted %d times", n)
	}
}

// A store on a disk has to commit in groups to do this in time.
func (s *suite) testManyWriters(t *testing.T) {
	st := s.store(t)
	const goroutines, writes = 500, 5
	ctx := deadline(t)
	together(t, goroutines, func(i int) error {
		c := container(i)
		for n := range writes {
			c.Restarts = n
			var err error
			if c, err = st.Put(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
	list, err := st.List(t.Context())
	if err != nil || len(list) != goroutines {
		t.Fatalf("List: %d records, want %d, %v", len(list), goroutines, err)
	}
	for _, c := range list {
		if c.Restarts != writes-1 {
			t.Errorf("%s: the last write is lost: %d", c.Name, c.Restarts)
		}
	}
}

// A List sees the state of one moment: of two records that are written one
// after the other the second is never ahead.
func (s *suite) testWholeStates(t *testing.T) {
	st := s.store(t)
	first, second := container(1), container(2)
	first.Restarts, second.Restarts = 0, 0
	put(t, st, first)
	put(t, st, second)
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				list, err := st.List(t.Context())
				if err != nil || len(list) != 2 {
					t.Errorf("List: %d records, %v", len(list), err)
					return
				}
				if a, b := list[0].Restarts, list[1].Restarts; b > a || a > b+1 {
					t.Errorf("List mixes states: %d and %d", a, b)
					return
				}
			}
		})
	}
	for range 25 {
		for _, id := range []string{first.ID, second.ID} {
			if err := increment(t.Context(), st, id); err != nil {
				t.Error(err)
			}
		}
	}
	stop()
	readers.Wait()
}

func (s *suite) testRevisionsOnce(t *testing.T) {
	st := s.store(t)
	var mu sync.Mutex
	by := make(map[uint64]string)
	together(t, 32, func(i int) error {
		c, err := st.Put(t.Context(), container(i))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if other, taken := by[c.Revision]; taken {
			return fmt.Errorf("%s and %s both have revision %d", c.Name, other, c.Revision)
		}
		by[c.Revision] = c.Name
		return nil
	})
}
