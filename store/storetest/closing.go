package storetest

import (
	"errors"
	"testing"

	"github.com/budgiehq/budgie/store"
)

// closing tests what Close ends.
func (s *suite) closing() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"EveryMethod":  s.testClosedMethods,
		"EndsWatches":  s.testCloseEndsWatches,
		"DuringWrites": s.testCloseDuringWrites,
	}
}

func (s *suite) testClosedMethods(t *testing.T) {
	st := s.store(t)
	c := put(t, st, container(1))
	release := acquire(t, st, "a")
	for range 2 {
		if err := st.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	_, err := st.Get(t.Context(), c.ID)
	wantError(t, "Get", err, store.ErrClosed)
	_, err = st.List(t.Context())
	wantError(t, "List", err, store.ErrClosed)
	_, err = st.Put(t.Context(), c)
	wantError(t, "Put", err, store.ErrClosed)
	wantError(t, "Delete", st.Delete(t.Context(), c.ID, c.Revision), store.ErrClosed)
	_, err = st.Watch(t.Context())
	wantError(t, "Watch", err, store.ErrClosed)
	_, err = st.Acquire(t.Context(), "b")
	wantError(t, "Acquire", err, store.ErrClosed)
	_, err = st.Alive(t.Context(), "a")
	wantError(t, "Alive", err, store.ErrClosed)
	release() // Close was first: nothing to do, and no error
}

// Nobody waits for ever for the changes of a store that is closed.
func (s *suite) testCloseEndsWatches(t *testing.T) {
	st := s.store(t)
	changes, err := st.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	drained(t, changes, "Close")
}

// A Close amid writes ends each of them, with success or ErrClosed.
func (s *suite) testCloseDuringWrites(t *testing.T) {
	st := s.store(t)
	started := make(chan struct{}, 16)
	closed := make(chan error, 1)
	go func() {
		<-started
		closed <- st.Close()
	}()
	together(t, 16, func(i int) error {
		c := container(i)
		for {
			var err error
			c, err = st.Put(t.Context(), c)
			if errors.Is(err, store.ErrClosed) {
				return nil
			} else if err != nil {
				return err
			}
			select {
			case started <- struct{}{}:
			default:
			}
		}
	})
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}
