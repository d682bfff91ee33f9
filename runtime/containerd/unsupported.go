//go:build !linux

package containerd

import (
	"context"
	"fmt"
	"io"
	"iter"
	goruntime "runtime"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// Runtime runs containers on containerd. On this operating system it cannot.
type Runtime struct{}

var errSystem = fmt.Errorf("containerd runtime: %w on %s, only on linux: choose another runtime",
	runtime.ErrUnsupported, goruntime.GOOS)

// New returns runtime.ErrUnsupported on this operating system, with a Runtime
// whose methods all do the same.
func New(opts ...Option) (*Runtime, error) {
	newOptions(opts)
	return &Runtime{}, errSystem
}

// Name returns "containerd".
func (*Runtime) Name() string { return Name }

// Supports returns runtime.ErrUnsupported.
func (*Runtime) Supports(context.Context, bunfile.Spec) error { return errSystem }

// Create returns runtime.ErrUnsupported.
func (*Runtime) Create(context.Context, runtime.Config) error { return errSystem }

// Start returns runtime.ErrUnsupported.
func (*Runtime) Start(context.Context, string) (runtime.Status, error) {
	return runtime.Status{}, errSystem
}

// Adopt returns runtime.ErrUnsupported.
func (*Runtime) Adopt(context.Context, string) (runtime.Status, error) {
	return runtime.Status{}, errSystem
}

// Stop returns runtime.ErrUnsupported.
func (*Runtime) Stop(context.Context, string, time.Duration) error { return errSystem }

// Remove returns runtime.ErrUnsupported.
func (*Runtime) Remove(context.Context, string) error { return errSystem }

// Status returns runtime.ErrUnsupported.
func (*Runtime) Status(context.Context, string) (runtime.Status, error) {
	return runtime.Status{}, errSystem
}

// List returns runtime.ErrUnsupported.
func (*Runtime) List(context.Context) ([]runtime.Status, error) { return nil, errSystem }

// Wait returns runtime.ErrUnsupported.
func (*Runtime) Wait(context.Context, string) (runtime.Status, error) {
	return runtime.Status{}, errSystem
}

// Logs yields runtime.ErrUnsupported.
func (*Runtime) Logs(context.Context, string, runtime.LogOptions) iter.Seq2[runtime.LogEntry, error] {
	return func(yield func(runtime.LogEntry, error) bool) { yield(runtime.LogEntry{}, errSystem) }
}

// Pull returns runtime.ErrUnsupported.
func (*Runtime) Pull(context.Context, bunfile.Image, func(runtime.PullProgress)) (string, error) {
	return "", errSystem
}

// Image returns runtime.ErrUnsupported.
func (*Runtime) Image(context.Context, string) (runtime.Descriptor, error) {
	return runtime.Descriptor{}, errSystem
}

// OpenBlob returns runtime.ErrUnsupported.
func (*Runtime) OpenBlob(context.Context, string) (runtime.Blob, error) { return nil, errSystem }

// Fetch returns runtime.ErrUnsupported.
func (*Runtime) Fetch(context.Context, bunfile.Image, runtime.Descriptor, []runtime.BlobSource, func(runtime.PullProgress)) (string, error) {
	return "", errSystem
}

// Exec returns runtime.ErrUnsupported.
func (*Runtime) Exec(context.Context, string, runtime.ExecConfig) (int, error) { return 0, errSystem }

// Stats returns runtime.ErrUnsupported.
func (*Runtime) Stats(context.Context, string) (runtime.Stats, error) {
	return runtime.Stats{}, errSystem
}

// Inspect returns runtime.ErrUnsupported.
func (*Runtime) Inspect(context.Context, string) (any, error) { return nil, errSystem }

// Import returns runtime.ErrUnsupported.
func (*Runtime) Import(context.Context, io.Reader) ([]string, error) { return nil, errSystem }

// RemoveImage returns runtime.ErrUnsupported.
func (*Runtime) RemoveImage(context.Context, string) error { return errSystem }

// Close does nothing.
func (*Runtime) Close() error { return nil }
