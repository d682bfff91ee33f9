//go:build !linux

package process

import (
	"context"
	"fmt"
	goruntime "runtime"

	"github.com/budgiehq/budgie/runtime"
)

// Stats returns runtime.ErrUnsupported: macOS tells what a process uses only to
// C programs, by way of libproc.
func (*Runtime) Stats(_ context.Context, id string) (runtime.Stats, error) {
	return runtime.Stats{}, fmt.Errorf("process runtime: stats %.12s: %w on %s, only on linux: ask ps(1) or top(1)", id, runtime.ErrUnsupported, goruntime.GOOS)
}
