package budgie

import (
	"context"
	"fmt"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// Exec runs a command inside the running container that ref means (see
// [Client.Get]), whoever runs that, and returns its exit code: 128 plus the
// signal's number where a signal ended it. The error is nil whenever the command
// ran to its end. The end of ctx, of the container and of the client kills it.
//
// A container that does not run gives runtime.ErrNotRunning, a command that
// cannot be run runtime.ErrCommand, and a runtime that cannot do this
// [ErrUnsupported].
func (c *Client) Exec(ctx context.Context, ref string, cfg runtime.ExecConfig) (int, error) {
	rec, err := c.Get(ctx, ref)
	if err != nil {
		return 0, err
	}
	execer, err := ability[runtime.Execer](c, rec)
	if err != nil {
		return 0, fmt.Errorf("run a command in container %s: %w", rec.Name, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.life, func() { cancel(ErrClosed) })()
	code, err := execer.Exec(ctx, rec.ID, cfg)
	if err != nil {
		return 0, fmt.Errorf("run a command in container %s: %w", rec.Name, err)
	}
	return code, nil
}

// ability returns a container's runtime as something that it need not be.
func ability[T any](c *Client, rec lifecycle.Container) (T, error) {
	var none T
	rt, err := c.runtimeNamed(rec.Runtime)
	if err != nil {
		return none, err
	}
	if able, ok := rt.(T); ok {
		return able, nil
	}
	return none, fmt.Errorf("%w (%s)", ErrUnsupported, rec.Runtime)
}
