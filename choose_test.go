package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
)

// choosy is a runtime that runs nothing, and says why.
type choosy struct {
	*runtimetest.Fake
	name   string
	reason error
}

func (c choosy) Name() string                                 { return c.name }
func (c choosy) Supports(context.Context, bunfile.Spec) error { return c.reason }

// Where the runtime that a container is for is not there, its advice is not
// drowned in what the others say.
func TestUnavailableRuntime(t *testing.T) {
	fake := runtimetest.NewFake()
	defer fake.Shutdown()
	c := newClient(t, budgie.WithStore(memory.New()), budgie.WithoutDiscovery(),
		budgie.WithRuntime(choosy{fake, "other", fmt.Errorf("%w: not for images", runtime.ErrUnsupported)}),
		budgie.WithRuntime(choosy{fake, "images", fmt.Errorf("%w: start it", runtime.ErrUnavailable)}))
	_, err := c.Run(t.Context(), web("web"))
	if !errors.Is(err, budgie.ErrNoRuntime) || !strings.Contains(err.Error(), "runtime images: ") || strings.Contains(err.Error(), "not for images") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Run(t.Context(), web("web"), budgie.OnRuntime("other")); !errors.Is(err, budgie.ErrNoRuntime) || !strings.Contains(err.Error(), "not for images") {
		t.Errorf("by its name: %v", err)
	}
}
