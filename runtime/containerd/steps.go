//go:build linux

package containerd

import (
	"context"
	"sync/atomic"
)

// operation is what a context's steps belong to.
type operation struct {
	name, id string
	// silent is set when containerd did not answer one of its calls.
	silent atomic.Bool
}

type operationKey struct{}

// during returns a context for an operation on a container.
func during(ctx context.Context, name, id string) context.Context {
	return context.WithValue(ctx, operationKey{}, &operation{name: name, id: id})
}

// operationOf returns the context's operation, or an empty one.
func operationOf(ctx context.Context) *operation {
	if op, ok := ctx.Value(operationKey{}).(*operation); ok {
		return op
	}
	return &operation{}
}

// step reports a step of the context's operation, before it is taken, at debug
// level. Whoever reads the log can follow what happens, see what takes how
// long, and, in tests, break off exactly there.
func (r *Runtime) step(ctx context.Context, name string) {
	op := operationOf(ctx)
	r.log.DebugContext(ctx, "step", "op", op.name, "id", op.id, "step", name)
}
