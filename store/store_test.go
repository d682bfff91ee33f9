package store_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted answers each Get and Put with the next of its errors.
type scripted struct {
	record     lifecycle.Container
	gets, puts []error
	wrote      []lifecycle.Container
}

func next(errs *[]error) error {
	if len(*errs) == 0 {
		return nil
	}
	err := (*errs)[0]
	*errs = (*errs)[1:]
	return err
}

func (s *scripted) Get(context.Context, string) (lifecycle.Container, error) {
	s.record.Revision++
	return s.record, next(&s.gets)
}

func (s *scripted) Put(_ context.Context, c lifecycle.Container) (lifecycle.Container, error) {
	s.wrote = append(s.wrote, c)
	return c, next(&s.puts)
}

func TestModify(t *testing.T) {
	broken := errors.New("broken")
	count := func(c *lifecycle.Container) error { c.Restarts++; return nil }
	refuse := func(c *lifecycle.Container) error { c.Restarts++; return broken }
	same := func(c *lifecycle.Container) error { c.Restarts++; return store.ErrUnchanged }
	for name, c := range map[string]struct {
		gets, puts []error
		change     func(*lifecycle.Container) error
		want       error
		writes     int
		restarts   int // of the record returned
	}{
		"plain":          {nil, nil, count, nil, 1, 1},
		"conflicts":      {nil, []error{store.ErrConflict, store.ErrConflict}, count, nil, 3, 1},
		"not found":      {[]error{store.ErrNotFound}, nil, count, store.ErrNotFound, 0, 0},
		"deleted since":  {[]error{nil, store.ErrNotFound}, []error{store.ErrConflict}, count, store.ErrNotFound, 1, 0},
		"put fails":      {nil, []error{broken}, count, broken, 1, 1},
		"change refuses": {nil, nil, refuse, broken, 0, 0},
		"unchanged":      {nil, nil, same, nil, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scripted{gets: c.gets, puts: c.puts}
			got, err := store.Modify(t.Context(), s, "aa", c.change)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("want %v, got %v", c.want, err)
			}
			if len(s.wrote) != c.writes || got.Restarts != c.restarts {
				t.Errorf("%d writes, returned %d; want %d, %d", len(s.wrote), got.Restarts, c.writes, c.restarts)
			}
			for i, w := range s.wrote { // each from a new read
				if w.Revision != uint64(i+1) {
					t.Errorf("write %d was of revision %d", i+1, w.Revision)
				}
			}
		})
	}
}

func TestExistsError(t *testing.T) {
	var err error = &store.ExistsError{Name: "web", ID: strings.Repeat("ab", 32)}
	if !errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound) {
		t.Error("an ExistsError is an ErrExists, and nothing else")
	}
	if want := `name "web" is taken by container abababababab`; err.Error() != want {
		t.Errorf("want %q, got %q", want, err)
	}
}

func TestRestoreTableCopies(t *testing.T) {
	list := []lifecycle.Container{{ID: "aa", Name: "a", Revision: 1, Exit: &lifecycle.Exit{Code: 1}}}
	table, err := store.RestoreTable(1, list)
	if err != nil {
		t.Fatal(err)
	}
	list[0].Exit.Code = 2
	if c, err := table.Get("aa"); err != nil || c.Exit.Code != 1 {
		t.Errorf("the table shares memory with what it was restored from: %+v, %v", c.Exit, err)
	}
}

// A table that was cloned stays as it was.
func TestTableClone(t *testing.T) {
	table := store.NewTable()
	c, err := table.Put(lifecycle.Container{ID: "aa", Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	clone := table.Clone()
	renamed := c
	renamed.Name = "b"
	if renamed, err = clone.Put(renamed); err != nil {
		t.Fatal(err)
	}
	if err := clone.Delete("aa", renamed.Revision); err != nil {
		t.Fatal(err)
	}
	if got := table.List(); len(got) != 1 || !reflect.DeepEqual(got[0], c) || table.Revision() != c.Revision {
		t.Errorf("the original has %+v at %d", got, table.Revision())
	}
	if clone.Revision() != c.Revision+2 {
		t.Errorf("the clone is at revision %d, want %d", clone.Revision(), c.Revision+2)
	}
}

// The last revision is the last: it does not start again at 0, which would
// mean "not stored".
func TestRevisionsEnd(t *testing.T) {
	const last = 1<<63 - 1
	c := lifecycle.Container{ID: "aa", Name: "a", Revision: 5}
	table, err := store.RestoreTable(last, []lifecycle.Container{c})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Put(c); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Put: %v", err)
	}
	if err := table.Delete(c.ID, c.Revision); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Delete: %v", err)
	}
}
