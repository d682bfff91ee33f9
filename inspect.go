package budgie

import (
	"context"
	"errors"
	"fmt"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// Stats takes a reading of what the running container that ref means (see
// [Client.Get]) uses. Two readings make a rate: see runtime.Stats. A container
// that does not run gives runtime.ErrNotRunning, a runtime that cannot tell
// [ErrUnsupported] or runtime.ErrUnsupported.
func (c *Client) Stats(ctx context.Context, ref string) (runtime.Stats, error) {
	rec, err := c.Get(ctx, ref)
	if err != nil {
		return runtime.Stats{}, err
	}
	statser, err := ability[runtime.Statser](c, rec)
	var st runtime.Stats
	if err == nil {
		st, err = statser.Stats(ctx, rec.ID)
	}
	if err != nil {
		return runtime.Stats{}, fmt.Errorf("measure container %s: %w", rec.Name, err)
	}
	return st, nil
}

// Inspection is all that is known of a container. As JSON it is one object, with
// the fields of the record beside the others.
type Inspection struct {
	// Container is the record, as [Client.List] shows it.
	lifecycle.Container
	// Supervised is true where a living process looks after the container.
	Supervised bool `json:"supervised"`
	// Detail is what the container's runtime knows of it, of a type that the
	// runtime documents: containerd.Details, process.Details. It is nil where the
	// runtime tells nothing or has nothing of the container.
	Detail any `json:"detail"`
}

// Inspect returns all that is known of the container that ref means (see
// [Client.Get]). Where its runtime cannot be asked, the record is returned
// together with the error. The environment is shown as it is, secrets included.
func (c *Client) Inspect(ctx context.Context, ref string) (Inspection, error) {
	rec, err := c.Get(ctx, ref)
	if err != nil {
		return Inspection{}, err
	}
	in := Inspection{Container: rec, Supervised: !rec.Finished() && !rec.Unsupervised}
	inspector, err := ability[runtime.Inspector](c, rec)
	if errors.Is(err, ErrUnsupported) {
		return in, nil
	}
	if err == nil {
		in.Detail, err = inspector.Inspect(ctx, rec.ID)
	}
	// A container that could not be made has a record alone.
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return in, fmt.Errorf("inspect container %s: %w", rec.Name, err)
	}
	return in, nil
}
