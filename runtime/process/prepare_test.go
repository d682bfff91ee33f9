//go:build linux || darwin

package process_test

import (
	"slices"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime/process"
)

func TestPrepareKeepsTheCallersPath(t *testing.T) {
	r, err := process.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	t.Setenv("PATH", "/caller/bin")
	own := make([]string, 1, 4) // with room, into which an append in place would write
	own[0] = "A=1"
	spec := bunfile.Spec{Environment: own}
	got, err := r.Prepare(t.Context(), spec)
	if err != nil || !slices.Equal(got.Environment, []string{"A=1", "PATH=/caller/bin"}) {
		t.Errorf("got %q, %v", got.Environment, err)
	}
	if own[:2][1] != "" {
		t.Errorf("wrote into the caller's memory: %q", own[:2])
	}
	spec.Environment = []string{"PATH=/own/bin"}
	if got, err = r.Prepare(t.Context(), spec); err != nil || !slices.Equal(got.Environment, spec.Environment) {
		t.Errorf("a PATH of its own became %q, %v", got.Environment, err)
	}
}
