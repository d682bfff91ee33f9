// Package records is what all stores have in common: a table of container
// records with the rules of compare-and-swap. It does no I/O; whoever uses it
// decides when a table becomes the state.
package records

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// maxRevision keeps revisions from wrapping to 0, which means "not stored".
const maxRevision = math.MaxInt64

// Table holds one record per container and the last revision given out. The
// zero value is not usable; see [New]. A table that is no longer changed can
// be read concurrently.
type Table struct {
	revision uint64
	byID     map[string]lifecycle.Container
	idByName map[string]string
}

// New returns an empty table.
func New() *Table {
	return &Table{byID: map[string]lifecycle.Container{}, idByName: map[string]string{}}
}

// Restore returns a table of records that were stored before. It fails where
// they break a rule that every table keeps.
func Restore(revision uint64, list []lifecycle.Container) (*Table, error) {
	if revision > maxRevision {
		return nil, fmt.Errorf("revision %d is out of range", revision)
	}
	t := New()
	t.revision = revision
	for i, c := range list {
		if err := check(c); err != nil {
			return nil, fmt.Errorf("container %d: %w", i+1, err)
		}
		if c.Revision == 0 || c.Revision > revision {
			return nil, fmt.Errorf("container %d has revision %d, outside 1 to %d", i+1, c.Revision, revision)
		}
		if _, taken := t.byID[c.ID]; taken {
			return nil, fmt.Errorf("container %d has the id of another: %.12s", i+1, c.ID)
		}
		if _, taken := t.idByName[c.Name]; taken {
			return nil, fmt.Errorf("container %d has the name of another: %q", i+1, c.Name)
		}
		t.set(UTC(c))
	}
	return t, nil
}

// Clone returns a copy that can be changed without changing t.
func (t *Table) Clone() *Table {
	return &Table{revision: t.revision, byID: maps.Clone(t.byID), idByName: maps.Clone(t.idByName)}
}

// Revision returns the last revision given out, 0 for a table never written to.
func (t *Table) Revision() uint64 { return t.revision }

// Skip makes all revisions up to and including revision count as given out.
func (t *Table) Skip(revision uint64) { t.revision = max(t.revision, revision) }

// Get returns a copy of the record of id, or store.ErrNotFound.
func (t *Table) Get(id string) (lifecycle.Container, error) {
	c, ok := t.byID[id]
	if !ok {
		return lifecycle.Container{}, store.ErrNotFound
	}
	return c.Clone(), nil
}

// Sorted returns the records, oldest first, those of the same time by id. They
// share memory with t and must not be changed.
func (t *Table) Sorted() []lifecycle.Container {
	return slices.SortedFunc(maps.Values(t.byID), func(a, b lifecycle.Container) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
}

// List returns copies of the records in the order of Sorted.
func (t *Table) List() []lifecycle.Container {
	list := t.Sorted()
	for i := range list {
		list[i] = list[i].Clone()
	}
	return list
}

// Put does what the Put of a store does, to t. c must come from [Canonical]; t
// keeps its memory.
func (t *Table) Put(c lifecycle.Container) (lifecycle.Container, error) {
	old, known := t.byID[c.ID]
	switch {
	case c.Revision == 0 && known:
		return lifecycle.Container{}, &store.ExistsError{Name: old.Name, ID: old.ID}
	case c.Revision != 0 && !known:
		return lifecycle.Container{}, store.ErrNotFound
	case known && old.Revision != c.Revision:
		return lifecycle.Container{}, store.ErrConflict
	}
	if id, taken := t.idByName[c.Name]; taken && id != c.ID {
		return lifecycle.Container{}, &store.ExistsError{Name: c.Name, ID: id}
	}
	if t.revision >= maxRevision {
		return lifecycle.Container{}, fmt.Errorf("revision %d is the last: %w", t.revision, store.ErrInvalid)
	}
	if known {
		delete(t.idByName, old.Name)
	}
	t.revision++
	c.Revision = t.revision
	t.set(c)
	return c.Clone(), nil
}

// Delete does what the Delete of a store does, to t.
func (t *Table) Delete(id string, revision uint64) error {
	old, known := t.byID[id]
	switch {
	case !known:
		return store.ErrNotFound
	case old.Revision != revision:
		return store.ErrConflict
	case t.revision >= maxRevision:
		return fmt.Errorf("revision %d is the last: %w", t.revision, store.ErrInvalid)
	}
	t.revision++
	delete(t.byID, id)
	delete(t.idByName, old.Name)
	return nil
}

func (t *Table) set(c lifecycle.Container) {
	t.byID[c.ID] = c
	t.idByName[c.Name] = c.ID
}

// Canonical returns c as it comes back from being written as JSON and read
// again, sharing no memory with c, so that what a Put returns is what every
// later Get returns, in whichever process: times are in UTC without a
// monotonic reading, empty lists are nil, and bytes that are not UTF-8 are
// U+FFFD. A record without id or name, or one that JSON cannot express, is an
// ErrInvalid.
func Canonical(c lifecycle.Container) (lifecycle.Container, error) {
	if err := check(c); err != nil {
		return lifecycle.Container{}, err
	}
	data, err := json.Marshal(UTC(c.Clone()))
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	var out lifecycle.Container
	if err := json.Unmarshal(data, &out); err != nil {
		return lifecycle.Container{}, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	return UTC(out), nil
}

// UTC returns c with all times in UTC and without monotonic readings, as
// comparable values. It changes what c.Exit points to.
func UTC(c lifecycle.Container) lifecycle.Container {
	c.CreatedAt = c.CreatedAt.Round(0).UTC()
	c.StartedAt = c.StartedAt.Round(0).UTC()
	c.RestartAt = c.RestartAt.Round(0).UTC()
	if c.Exit != nil {
		c.Exit.At = c.Exit.At.Round(0).UTC()
	}
	return c
}

func check(c lifecycle.Container) error {
	switch {
	case c.ID == "":
		return fmt.Errorf("record of %q without an id: %w", c.Name, store.ErrInvalid)
	case c.Name == "":
		return fmt.Errorf("record of %.12s without a name: %w", c.ID, store.ErrInvalid)
	}
	return nil
}
