package budgie

import (
	"context"
	"errors"
	"fmt"

	"github.com/budgiehq/budgie/internal/handover"
)

// Upgrade has each process of this user and data directory that was given [WithUpgrade],
// or the one with the given process id where that is not 0, start a successor that takes
// its place. It calls told with what came of each: what the process says of its successor
// once that serves, or why it goes on itself. The error is [ErrNotFound] where there is
// no such process, and errors.ErrUnsupported on other systems than Linux.
func (c *Client) Upgrade(ctx context.Context, pid int, told func(pid int, text string, err error)) error {
	if err := c.open(); err != nil {
		return err
	}
	err := handover.Upgrade(ctx, c.handOverDir(), pid, told)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("upgrade a process in place: %w on this system: stop it and start the new one", err)
	case errors.Is(err, handover.ErrNone):
		err = fmt.Errorf("%w: no process of %s can be upgraded in place", ErrNotFound, c.cfg.dataDir)
	}
	return err
}
