package replica

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// arriving returns a target and its directory, and a function by which a file arrives.
func arriving(t *testing.T) (to *target, dir string, arrive func(path string) *incoming) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "copy")
	to, err := openTarget(dir, openRoot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.close)
	if err := to.index(t.Context(), &manifest{entries: []entry{volume}}, false); err != nil {
		t.Fatal(err)
	}
	return to, dir, func(path string) *incoming {
		c, err := to.create(file(path, ""))
		if err == nil {
			err = c.accept()
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// Files get their names once they are durable, and what comes does not wait for that:
// the next batch does.
func TestBatchOnItsWayToTheDisk(t *testing.T) {
	to, dir, arrive := arriving(t)
	there := func() int {
		names, err := filepath.Glob(filepath.Join(dir, "f*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	for i := range 2*batch + 1 {
		if arrive(fmt.Sprint("f", i)); there() != max(0, (i+1)/batch-1)*batch {
			t.Fatalf("%d files have their names when %d have come", there(), i+1)
		}
	}
	if err := to.settleArrived(); err != nil || there() != 2*batch+1 || to.settling != nil || len(to.temporary) > 0 {
		t.Errorf("in the end %d files have their names, %v are under way: %v", there(), to.temporary, err)
	}
}

// Where the disk fails, neither that batch nor what came meanwhile gets a name.
func TestBatchThatCannotBeMadeDurable(t *testing.T) {
	to, dir, arrive := arriving(t)
	_ = arrive("a").file.Close()
	if err := to.settleBatch(); err != nil {
		t.Fatal(err)
	}
	arrive("b")
	if err := to.settleArrived(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("settleArrived: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || len(to.temporary) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
