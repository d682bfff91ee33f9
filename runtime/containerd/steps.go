//go:build linux

package containerd

import "context"

// operation is what a context's steps belong to.
type operation struct{ name, id string }

type operationKey struct{}

// during returns a context for an operation on a container.
func during(ctx context.Context, name, id string) context.Context {
	return context.WithValue(ctx, operationKey{}, operation{name, id})
}

// step reports a step of the context's operation, before it is taken, at debug
// level. Whoever reads the log can follow what happens, see what takes how
// long, and, in tests, break off exactly there.
func (r *Runtime) step(ctx context.Context, name string) {
	op, _ := ctx.Value(operationKey{}).(operation)
	r.log.DebugContext(ctx, "step", "op", op.name, "id", op.id, "step", name)
}
