package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// model is what a store should be: the records in a list, searched from end to
// end. It shares no code with the stores.
type model struct {
	records []lifecycle.Container
	last    uint64
	held    map[string]bool
}

func (m *model) find(match func(lifecycle.Container) bool) int {
	return slices.IndexFunc(m.records, match)
}

// put returns the error that Put must give. The new revision is the store's to
// choose, as long as it grows.
func (m *model) put(c lifecycle.Container) error {
	i := m.find(func(r lifecycle.Container) bool { return r.ID == c.ID })
	named := m.find(func(r lifecycle.Container) bool { return r.Name == c.Name && r.ID != c.ID })
	switch {
	case c.Revision == 0 && i >= 0:
		return store.ErrExists
	case c.Revision != 0 && i < 0:
		return store.ErrNotFound
	case i >= 0 && m.records[i].Revision != c.Revision:
		return store.ErrConflict
	case named >= 0:
		return store.ErrExists
	}
	return nil
}

func (m *model) stored(c lifecycle.Container) {
	m.records = slices.DeleteFunc(m.records, func(r lifecycle.Container) bool { return r.ID == c.ID })
	m.records = append(m.records, c)
	m.last = c.Revision
}

func (m *model) delete(id string, revision uint64) error {
	i := m.find(func(r lifecycle.Container) bool { return r.ID == id })
	switch {
	case i < 0:
		return store.ErrNotFound
	case m.records[i].Revision != revision:
		return store.ErrConflict
	}
	m.records = slices.Delete(m.records, i, i+1)
	return nil
}

func (m *model) list() []lifecycle.Container {
	list := slices.Clone(m.records)
	slices.SortFunc(list, func(a, b lifecycle.Container) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// machine drives a store and its model side by side. With two values, each
// step uses either.
type machine struct {
	ctx      context.Context
	values   []Store
	model    model
	releases map[string]func() error
}

// model compares the store with its model over random sequences of operations.
// rapid prints the seed of a failure.
func (s *suite) model(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := s.open(t)
		m := &machine{ctx: t.Context(), values: []Store{first}, releases: map[string]func() error{}}
		m.model.held = make(map[string]bool)
		if s.again != nil {
			m.values = append(m.values, s.again(t, first))
		}
		defer func() {
			for _, st := range m.values {
				closeStore(t, st)
			}
		}()
		steps := map[string]func(*rapid.T){
			"put": m.put, "delete": m.delete, "get": m.get,
			"acquire": m.acquire, "release": m.release, "alive": m.alive,
		}
		kinds := rapid.SampledFrom([]string{"put", "put", "put", "delete", "get", "acquire", "release", "alive"})
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			steps[kinds.Draw(rt, "step")](rt)
			m.compare(rt)
		}
	})
}

func (m *machine) value(t *rapid.T) Store {
	return m.values[rapid.IntRange(0, len(m.values)-1).Draw(t, "value")]
}

// drawID and drawOwner draw of few, so that they meet.
func drawID(t *rapid.T) string {
	return rapid.SampledFrom([]string{"aa", "bb", "cc", "dd"}).Draw(t, "id")
}

func drawOwner(t *rapid.T) string {
	return rapid.SampledFrom([]string{"one", "two"}).Draw(t, "owner")
}

// revision draws one that is right for id, or one that is not.
func (m *machine) revision(t *rapid.T, id string) uint64 {
	i := m.model.find(func(r lifecycle.Container) bool { return r.ID == id })
	if i >= 0 && rapid.IntRange(0, 3).Draw(t, "right") > 0 {
		return m.model.records[i].Revision
	}
	return rapid.SampledFrom([]uint64{0, 0, 1, m.model.last, m.model.last + 1}).Draw(t, "revision")
}

func (m *machine) put(t *rapid.T) {
	c := lifecycle.Container{
		ID:        drawID(t),
		Name:      rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "name"),
		Reason:    rapid.String().Draw(t, "reason"),
		Restarts:  rapid.IntRange(0, 9).Draw(t, "restarts"),
		CreatedAt: time.Unix(rapid.Int64Range(0, 2).Draw(t, "created"), 0).UTC(),
	}
	c.Revision = m.revision(t, c.ID)
	want := m.model.put(c)
	got, err := m.value(t).Put(m.ctx, c)
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Fatalf("Put(%s, %s, revision %d): want %v, got %v", c.ID, c.Name, c.Revision, want, err)
	}
	if err != nil {
		return
	}
	if got.Revision <= m.model.last {
		t.Fatalf("Put gave revision %d after %d", got.Revision, m.model.last)
	}
	c.Revision = got.Revision
	if !reflect.DeepEqual(got, c) {
		t.Fatalf("Put returned\n%+v\nwant\n%+v", got, c)
	}
	m.model.stored(c)
}

func (m *machine) delete(t *rapid.T) {
	id := drawID(t)
	revision := m.revision(t, id)
	want := m.model.delete(id, revision)
	if err := m.value(t).Delete(m.ctx, id, revision); !errors.Is(err, want) || want == nil && err != nil {
		t.Fatalf("Delete(%s, %d): want %v, got %v", id, revision, want, err)
	}
}

func (m *machine) get(t *rapid.T) {
	id := drawID(t)
	got, err := m.value(t).Get(m.ctx, id)
	i := m.model.find(func(r lifecycle.Container) bool { return r.ID == id })
	switch {
	case i < 0 && !errors.Is(err, store.ErrNotFound):
		t.Fatalf("Get(%s) of nothing: %v", id, err)
	case i >= 0 && (err != nil || !reflect.DeepEqual(got, m.model.records[i])):
		t.Fatalf("Get(%s): %+v, %v, want %+v", id, got, err, m.model.records[i])
	}
}

func (m *machine) acquire(t *rapid.T) {
	owner := drawOwner(t)
	release, err := m.value(t).Acquire(m.ctx, owner)
	if m.model.held[owner] {
		if !errors.Is(err, store.ErrOwned) {
			t.Fatalf("Acquire(%s) of a held name: %v", owner, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Acquire(%s) of a free name: %v", owner, err)
	}
	m.model.held[owner], m.releases[owner] = true, release
}

func (m *machine) release(t *rapid.T) {
	owner := drawOwner(t)
	if release := m.releases[owner]; release != nil { // held, or was held
		if err := release(); err != nil {
			t.Fatalf("release of %s: %v", owner, err)
		}
		m.model.held[owner] = false
	}
}

func (m *machine) alive(t *rapid.T) {
	owner := drawOwner(t)
	if alive, err := m.value(t).Alive(m.ctx, owner); err != nil || alive != m.model.held[owner] {
		t.Fatalf("Alive(%s): %v, %v, want %v", owner, alive, err, m.model.held[owner])
	}
}

// compare lists every value against the model.
func (m *machine) compare(t *rapid.T) {
	want := m.model.list()
	for i, st := range m.values {
		got, err := st.List(m.ctx)
		if err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("List of value %d: %s, %v\nwant %s", i, brief(got), err, brief(want))
		}
	}
}

func brief(list []lifecycle.Container) string {
	var out []string
	for _, c := range list {
		out = append(out, fmt.Sprintf("%s/%s@%d", c.ID, c.Name, c.Revision))
	}
	return fmt.Sprint(out)
}
