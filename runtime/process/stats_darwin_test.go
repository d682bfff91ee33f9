package process

import (
	"errors"
	"testing"

	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// TestNoStats: it is said that there are none.
func TestNoStats(t *testing.T) {
	if _, err := newFixture(t).Stats(t.Context(), runtimetest.NewID()); !errors.Is(err, runtime.ErrUnsupported) {
		t.Errorf("Stats gives %v", err)
	}
}
