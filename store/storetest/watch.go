package storetest

import (
	"context"
	"testing"
	"time"
)

// watching tests Watch.
func (s *suite) watching() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"Initial":         s.testWatchInitial,
		"EveryKind":       s.testWatchEveryKind,
		"Coalesced":       s.testWatchCoalesced,
		"LastNotMissed":   s.testWatchLastNotMissed,
		"ClosedAtEnd":     s.testWatchClosedAtEnd,
		"OthersUntouched": s.testWatchOthersUntouched,
	}
}

// watch starts watching and takes the initial value.
func watch(t *testing.T, st Store) <-chan struct{} {
	t.Helper()
	changes, err := st.Watch(t.Context())
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	receive(t, changes, "the initial value")
	return changes
}

// receive waits for a value.
func receive(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case _, ok := <-changes:
		if !ok {
			t.Fatalf("Watch: closed before %s", what)
		}
	case <-time.After(patience):
		t.Fatalf("Watch: no value for %s", what)
	}
}

// drained waits for the end of a channel.
func drained(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case _, ok := <-changes:
			if !ok {
				return
			}
		case <-timeout:
			t.Fatalf("Watch: not closed after %s", what)
		}
	}
}

// until reads after every value until the state is as wanted.
func until(t *testing.T, changes <-chan struct{}, what string, reached func() bool) {
	t.Helper()
	for !reached() {
		receive(t, changes, what)
	}
}

func (s *suite) testWatchInitial(t *testing.T) {
	st := s.store(t)
	put(t, st, container(1))
	watch(t, st)
	watch(t, st) // a second one has its own
}

// The value comes after the change: who reads then sees it.
func (s *suite) testWatchEveryKind(t *testing.T) {
	st := s.store(t)
	changes := watch(t, st)
	count := func(n int) func() bool {
		return func() bool {
			list, err := st.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(list) == n
		}
	}
	c := put(t, st, container(1))
	until(t, changes, "a creation", count(1))
	receive(t, changes, "a creation")
	c.Restarts = 77
	c = put(t, st, c)
	receive(t, changes, "an update")
	until(t, changes, "an update", func() bool { return get(t, st, c.ID).Restarts == 77 })
	if err := st.Delete(t.Context(), c.ID, c.Revision); err != nil {
		t.Fatal(err)
	}
	receive(t, changes, "a deletion")
	until(t, changes, "a deletion", count(0))
}

// Nobody who is slow holds up the writers, or gets a value per change.
func (s *suite) testWatchCoalesced(t *testing.T) {
	st := s.store(t)
	changes, err := st.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const writes = 50
	c := put(t, st, container(1))
	for range writes {
		c = put(t, st, c)
	}
	until(t, changes, "the last write", func() bool { return get(t, st, c.ID).Revision == c.Revision })
	values := 0
	for len(changes) > 0 {
		<-changes
		values++
	}
	if values > writes/2 {
		t.Errorf("%d changes left %d values to receive", writes, values)
	}
}

func (s *suite) testWatchLastNotMissed(t *testing.T) {
	st := s.store(t)
	c := put(t, st, container(1))
	changes := watch(t, st)
	const writes = 100
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; n <= writes; n++ {
			c.Restarts = n
			var err error
			if c, err = st.Put(t.Context(), c); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	until(t, changes, "the last of many changes", func() bool { return get(t, st, container(1).ID).Restarts == writes })
	<-done
}

func (s *suite) testWatchClosedAtEnd(t *testing.T) {
	st := s.store(t)
	ctx, cancel := context.WithCancel(t.Context())
	changes, err := st.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	drained(t, changes, "the end of its context")
	put(t, st, container(1)) // nothing is sent on the closed channel
}

func (s *suite) testWatchOthersUntouched(t *testing.T) {
	st := s.store(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended, err := st.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	changes := watch(t, st)
	cancel()
	drained(t, ended, "the end of its context")
	put(t, st, container(1))
	receive(t, changes, "a change after another watch had ended")
}
