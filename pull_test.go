package budgie_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// The image is pulled before anything of the container exists, with progress
// for whoever wants it, and the container's record says which one it was.
func TestRunPullsFirst(t *testing.T) {
	f := newFakes(t)
	var mu sync.Mutex
	var steps []runtime.PullStep
	rec, err := f.Run(t.Context(), web("pulled"), budgie.OnPull(func(name string, p runtime.PullProgress) {
		mu.Lock()
		defer mu.Unlock()
		if name != "pulled" || p.Image != "example/web" {
			t.Errorf("an event for %s, image %s", name, p.Image)
		}
		if all, err := f.runtime.List(t.Context()); err != nil || len(all) > 0 {
			t.Errorf("there is a container already: %v, %v", all, err)
		}
		steps = append(steps, p.Step)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(steps, runtime.PullFetching) || steps[len(steps)-1] != runtime.PullDone {
		t.Errorf("the steps are %v", steps)
	}
	if stored, err := f.Get(t.Context(), rec.ID); err != nil || !strings.HasPrefix(stored.ImageDigest, "sha256:") {
		t.Errorf("the record has the image digest %q, %v", stored.ImageDigest, err)
	}
}

func TestRunFailsWithThePull(t *testing.T) {
	broken := errors.New("the registry is on fire")
	f := newFakes(t, runtimetest.WithFault(func(op, _ string) error {
		if op == "pull" {
			return broken
		}
		return nil
	}))
	if _, err := f.Run(t.Context(), web("unlucky")); !errors.Is(err, broken) || !strings.Contains(err.Error(), "run container unlucky: ") {
		t.Errorf("the error is %v", err)
	}
	if all, err := f.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("it leaves %v, %v", all, err)
	}
}
