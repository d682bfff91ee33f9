//go:build linux || darwin

package process

import (
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/runtime"
)

// TestRemovedByTwo: two programs remove a container at the same time, as two
// people do who type the same. One of them does it, for the other one it is
// gone.
func TestRemovedByTwo(t *testing.T) {
	f := newFixture(t)
	other := open(t, f.dir)
	defer other.Close()
	for range 60 {
		id := f.create(spec("exit", "0"))
		var errs [2]error
		var both sync.WaitGroup
		for i, r := range []*Runtime{f.Runtime, other} {
			both.Go(func() { errs[i] = r.Remove(t.Context(), id) })
		}
		both.Wait()
		if errs[0] != nil && errs[1] != nil {
			t.Fatalf("nobody removed it: %v, %v", errs[0], errs[1])
		}
		for _, err := range errs {
			if err != nil && !errors.Is(err, runtime.ErrNotFound) {
				t.Fatal(err)
			}
		}
		if err := f.Remove(t.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
			t.Fatalf("a third Remove gives %v", err)
		}
	}
	if entries, err := os.ReadDir(f.dir); err != nil || len(entries) != 0 {
		t.Errorf("left over are %v, %v", entries, err)
	}
}
