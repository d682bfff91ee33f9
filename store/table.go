package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/budgiehq/budgie/lifecycle"
)

// maxRevision keeps revisions from wrapping to 0, which means "not stored".
const maxRevision = math.MaxInt64

// Table is what all stores have in common: one record per container, the last
// revision given out, and the rules of compare-and-swap. It does no I/O;
// whoever implements a store decides when a table becomes the state. The zero
// value is not usable; see [NewTable] and [RestoreTable]. A table that is no
// longer changed can be read concurrently.
type Table struct {
	revision uint64
	byID     map[string]lifecycle.Container
	idByName map[string]string
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{byID: map[string]lifecycle.Container{}, idByName: map[string]string{}}
}

// RestoreTable returns a table of records that were stored before. It fails where
// they break a rule that every table keeps.
func RestoreTable(revision uint64, list []lifecycle.Container) (*Table, error) {
	if revision > maxRevision {
		return nil, fmt.Errorf("revision %d is out of range", revision)
	}
	t := NewTable()
	t.revision = revision
	for i, c := range list {
		if err := checkRecord(c); err != nil {
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
		t.set(inUTC(c.Clone()))
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

// Get returns a copy of the record of id, or ErrNotFound.
func (t *Table) Get(id string) (lifecycle.Container, error) {
	c, ok := t.byID[id]
	if !ok {
		return lifecycle.Container{}, ErrNotFound
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
		return lifecycle.Container{}, &ExistsError{Name: old.Name, ID: old.ID}
	case c.Revision != 0 && !known:
		return lifecycle.Container{}, ErrNotFound
	case known && old.Revision != c.Revision:
		return lifecycle.Container{}, ErrConflict
	}
	if id, taken := t.idByName[c.Name]; taken && id != c.ID {
		return lifecycle.Container{}, &ExistsError{Name: c.Name, ID: id}
	}
	if t.revision >= maxRevision {
		return lifecycle.Container{}, fmt.Errorf("revision %d is the last: %w", t.revision, ErrInvalid)
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
		return ErrNotFound
	case old.Revision != revision:
		return ErrConflict
	case t.revision >= maxRevision:
		return fmt.Errorf("revision %d is the last: %w", t.revision, ErrInvalid)
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
	if err := checkRecord(c); err != nil {
		return lifecycle.Container{}, err
	}
	data, err := json.Marshal(inUTC(c.Clone()))
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var out lifecycle.Container
	if err := json.Unmarshal(data, &out); err != nil {
		return lifecycle.Container{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return inUTC(out), nil
}

// inUTC returns c with all times in UTC and without monotonic readings, as
// comparable values. It changes what c.Exit points to.
func inUTC(c lifecycle.Container) lifecycle.Container {
	c.CreatedAt = c.CreatedAt.Round(0).UTC()
	c.StartedAt = c.StartedAt.Round(0).UTC()
	c.RestartAt = c.RestartAt.Round(0).UTC()
	if c.Exit != nil {
		c.Exit.At = c.Exit.At.Round(0).UTC()
	}
	return c
}

func checkRecord(c lifecycle.Container) error {
	switch {
	case c.ID == "":
		return fmt.Errorf("record of %q without an id: %w", c.Name, ErrInvalid)
	case c.Name == "":
		return fmt.Errorf("record of %.12s without a name: %w", c.ID, ErrInvalid)
	}
	return nil
}
