package storetest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// records tests single operations on records.
func (s *suite) records() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"Empty":            s.testEmpty,
		"RoundTrip":        s.testRoundTrip,
		"Canonical":        s.testCanonical,
		"Invalid":          s.testInvalid,
		"CreateTwice":      s.testCreateTwice,
		"NameTaken":        s.testNameTaken,
		"Rename":           s.testRename,
		"PutConflict":      s.testPutConflict,
		"Delete":           s.testDelete,
		"RevisionsGrow":    s.testRevisionsGrow,
		"ListOrder":        s.testListOrder,
		"SharesNoMemory":   s.testSharesNoMemory,
		"EndedContext":     s.testEndedContext,
		"ErrorsNameTheOne": s.testErrorsNameTheOne,
	}
}

func (s *suite) testEmpty(t *testing.T) {
	st := s.store(t)
	if list, err := st.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List of an empty store: %v, %v", list, err)
	}
	c := container(1)
	_, err := st.Get(t.Context(), c.ID)
	wantError(t, "Get of an unknown id", err, store.ErrNotFound)
	wantError(t, "Delete of an unknown id", st.Delete(t.Context(), c.ID, 1), store.ErrNotFound)
	wantError(t, "Delete of an unknown id with revision 0", st.Delete(t.Context(), c.ID, 0), store.ErrNotFound)
	c.Revision = 1
	_, err = st.Put(t.Context(), c)
	wantError(t, "Put with a revision of an unknown id", err, store.ErrNotFound)
}

func (s *suite) testRoundTrip(t *testing.T) {
	st := s.store(t)
	c := container(1)
	stored := put(t, st, c)
	if stored.Revision == 0 {
		t.Error("the stored record has revision 0")
	}
	c.Revision = stored.Revision
	if !reflect.DeepEqual(stored, c) {
		t.Errorf("Put returned a different record:\n%+v\n%+v", stored, c)
	}
	if got := get(t, st, c.ID); !reflect.DeepEqual(got, c) {
		t.Errorf("Get returned a different record:\n%+v\n%+v", got, c)
	}
	if list, err := st.List(t.Context()); err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], c) {
		t.Errorf("List: %+v, %v", list, err)
	}
	minimal := lifecycle.Container{ID: container(2).ID, Name: "x"}
	stored = put(t, st, minimal)
	minimal.Revision = stored.Revision
	if got := get(t, st, minimal.ID); !reflect.DeepEqual(got, minimal) {
		t.Errorf("a record with zero fields: want %+v, got %+v", minimal, got)
	}
}

// What Put returns is what Get returns ever after, also where the record put
// was not quite in that form.
func (s *suite) testCanonical(t *testing.T) {
	st := s.store(t)
	c := container(1)
	c.CreatedAt = time.Now() // with a monotonic reading
	c.StartedAt = c.StartedAt.In(time.FixedZone("east", 3600))
	c.Exit.At = c.Exit.At.In(time.FixedZone("west", -3600))
	c.Endpoints = []lifecycle.Endpoint{}
	c.Spec.Labels = map[string]string{}
	c.Reason = "bad \xff text"
	stored := put(t, st, c)
	if got := get(t, st, c.ID); !reflect.DeepEqual(got, stored) {
		t.Errorf("Get differs from what Put returned:\n%+v\n%+v", got, stored)
	}
	if !stored.CreatedAt.Equal(c.CreatedAt) || !stored.StartedAt.Equal(c.StartedAt) || !stored.Exit.At.Equal(c.Exit.At) {
		t.Errorf("times changed: %+v", stored)
	}
	if loc := stored.StartedAt.Location(); loc != time.UTC {
		t.Errorf("time in %v, want UTC", loc)
	}
	if loc := c.Exit.At.Location().String(); loc != "west" {
		t.Errorf("Put changed the caller's record: time in %s", loc)
	}
}

func (s *suite) testInvalid(t *testing.T) {
	st := s.store(t)
	noID, noName, farFuture := container(1), container(2), container(3)
	noID.ID, noName.Name = "", ""
	farFuture.CreatedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // beyond RFC 3339
	for what, c := range map[string]lifecycle.Container{"no id": noID, "no name": noName, "year 10000": farFuture} {
		_, err := st.Put(t.Context(), c)
		wantError(t, "Put of a record with "+what, err, store.ErrInvalid)
	}
	if list, err := st.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List after refused records: %v, %v", list, err)
	}
}

func wantExists(t *testing.T, what string, err error, by lifecycle.Container) {
	t.Helper()
	wantError(t, what, err, store.ErrExists)
	if e, ok := errors.AsType[*store.ExistsError](err); !ok || e.Name != by.Name || e.ID != by.ID {
		t.Errorf("%s: want an ExistsError with %s %.12s, got %#v", what, by.Name, by.ID, e)
	}
}

func (s *suite) testCreateTwice(t *testing.T) {
	st := s.store(t)
	first := put(t, st, container(1))
	second := container(1)
	second.Name = "another"
	_, err := st.Put(t.Context(), second)
	wantExists(t, "Put of a new record with a known id", err, first)
	if got := get(t, st, first.ID); !reflect.DeepEqual(got, first) {
		t.Errorf("the refused Put changed the record: %+v", got)
	}
}

func (s *suite) testNameTaken(t *testing.T) {
	st := s.store(t)
	first, other := put(t, st, container(1)), put(t, st, container(2))
	third := container(3)
	third.Name = first.Name
	_, err := st.Put(t.Context(), third)
	wantExists(t, "Put of a new record with a known name", err, first)
	renamed := other
	renamed.Name = first.Name
	_, err = st.Put(t.Context(), renamed)
	wantExists(t, "Put that renames to a known name", err, first)
	if got := get(t, st, other.ID); !reflect.DeepEqual(got, other) {
		t.Errorf("the refused rename changed the record: %+v", got)
	}
}

// A name is free again once its record has another one, or is gone.
func (s *suite) testRename(t *testing.T) {
	st := s.store(t)
	c := put(t, st, container(1))
	c.Name = "renamed"
	c = put(t, st, c)
	second := container(2)
	second.Name = container(1).Name
	second = put(t, st, second)
	if err := st.Delete(t.Context(), second.ID, second.Revision); err != nil {
		t.Fatal(err)
	}
	c.Name = second.Name
	put(t, st, c)
}

func (s *suite) testPutConflict(t *testing.T) {
	st := s.store(t)
	first := put(t, st, container(1))
	second := first
	second.Restarts++
	second = put(t, st, second)
	stale := first
	stale.Reason = "stale"
	for what, revision := range map[string]uint64{"an older": first.Revision, "a future": second.Revision + 1000} {
		stale.Revision = revision
		_, err := st.Put(t.Context(), stale)
		wantError(t, "Put with "+what+" revision", err, store.ErrConflict)
	}
	if got := get(t, st, first.ID); !reflect.DeepEqual(got, second) {
		t.Errorf("a refused Put changed the record: %+v", got)
	}
}

func (s *suite) testDelete(t *testing.T) {
	st := s.store(t)
	first := put(t, st, container(1))
	second := put(t, st, first)
	for what, revision := range map[string]uint64{"an older": first.Revision, "no": 0, "a future": second.Revision + 1000} {
		wantError(t, "Delete with "+what+" revision", st.Delete(t.Context(), first.ID, revision), store.ErrConflict)
	}
	get(t, st, first.ID)
	if err := st.Delete(t.Context(), second.ID, second.Revision); err != nil {
		t.Fatal(err)
	}
	_, err := st.Get(t.Context(), first.ID)
	wantError(t, "Get after Delete", err, store.ErrNotFound)
	wantError(t, "Delete after Delete", st.Delete(t.Context(), first.ID, second.Revision), store.ErrNotFound)
	_, err = st.Put(t.Context(), second)
	wantError(t, "Put of a deleted record", err, store.ErrNotFound)
}

// A revision never means two things, not even for an id that comes back.
// Revisions grow over everything, a deletion included, which is a change like
// any other and takes one, too: no revision ever means two things.
func (s *suite) testRevisionsGrow(t *testing.T) {
	st := s.store(t)
	var last uint64
	for range 3 {
		c := put(t, st, container(1))
		updated := put(t, st, c)
		if c.Revision <= last || updated.Revision <= c.Revision {
			t.Fatalf("revisions %d, %d after %d: they must grow", c.Revision, updated.Revision, last)
		}
		if err := st.Delete(t.Context(), c.ID, updated.Revision); err != nil {
			t.Fatal(err)
		}
		last = updated.Revision + 1 // at least: the deletion's
	}
}

func (s *suite) testListOrder(t *testing.T) {
	st := s.store(t)
	same := container(5).CreatedAt
	for _, n := range []int{4, 2, 9, 1, 7, 3} {
		c := container(n)
		if n >= 3 && n <= 7 {
			c.CreatedAt = same
		}
		put(t, st, c)
	}
	list, err := st.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, c.Name)
	}
	if want := []string{"web-1", "web-2", "web-3", "web-4", "web-7", "web-9"}; !slices.Equal(got, want) {
		t.Errorf("List: want %v, got %v", want, got)
	}
}

// scribble changes everything that a record refers to.
func scribble(c lifecycle.Container) {
	c.Spec.Labels["tier"] = "scribbled"
	c.Spec.Environment[0] = "scribbled"
	c.Spec.Image.Command[0] = "scribbled"
	c.Spec.Ports[0].HostPort = 1
	c.Spec.Volumes[0].Source = "scribbled"
	c.Spec.DependsOn[0] = "scribbled"
	c.Spec.Healthcheck.Command[0] = "scribbled"
	c.Spec.Healthcheck.Retries = 99
	*c.Spec.StopTimeout = 0
	*c.StopGrace = 0
	c.Endpoints[0].Port = 1
	c.Exit.Code = 1
}

func (s *suite) testSharesNoMemory(t *testing.T) {
	st := s.store(t)
	in := container(1)
	out := put(t, st, in)
	want := out.Clone()
	intact := func(after string) {
		t.Helper()
		if got := get(t, st, in.ID); !reflect.DeepEqual(got, want) {
			t.Errorf("changing %s changed the stored record: %+v", after, got)
		}
	}
	scribble(in)
	intact("what was put")
	scribble(out)
	intact("what Put returned")
	scribble(get(t, st, in.ID))
	intact("what Get returned")
	list, err := st.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("List: %v, %v", list, err)
	}
	scribble(list[0])
	list[0].Name = "scribbled"
	intact("what List returned")
}

func (s *suite) testEndedContext(t *testing.T) {
	st := s.store(t)
	c := put(t, st, container(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := st.Get(ctx, c.ID)
	wantError(t, "Get", err, context.Canceled)
	_, err = st.List(ctx)
	wantError(t, "List", err, context.Canceled)
	_, err = st.Put(ctx, c)
	wantError(t, "Put", err, context.Canceled)
	wantError(t, "Delete", st.Delete(ctx, c.ID, c.Revision), context.Canceled)
	_, err = st.Watch(ctx)
	wantError(t, "Watch", err, context.Canceled)
	_, err = st.Acquire(ctx, "owner")
	wantError(t, "Acquire", err, context.Canceled)
	_, err = st.Alive(ctx, "owner")
	wantError(t, "Alive", err, context.Canceled)
	if got := get(t, st, c.ID); !reflect.DeepEqual(got, c) {
		t.Errorf("an operation with an ended context changed the record: %+v", got)
	}
}

// An error is read by somebody who has several containers.
func (s *suite) testErrorsNameTheOne(t *testing.T) {
	st := s.store(t)
	c := container(0xabcdef)
	_, err := st.Get(t.Context(), c.ID)
	if err == nil || !strings.Contains(err.Error(), c.ShortID()) {
		t.Errorf("Get: the error does not name the container: %v", err)
	}
	c.Revision = 7
	if _, err = st.Put(t.Context(), c); err == nil || !strings.Contains(err.Error(), c.Name) {
		t.Errorf("Put: the error does not name the container: %v", err)
	}
}
