//go:build linux || darwin

package process

import (
	"context"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// Inspect returns [Details].
func (r *Runtime) Inspect(ctx context.Context, id string) (any, error) {
	_, done, err := r.enter(ctx)
	if err != nil {
		return nil, opError("inspect", id, err)
	}
	defer done()
	d, err := r.inspect(id)
	if err != nil {
		return nil, opError("inspect", id, err)
	}
	return d, nil
}

func (r *Runtime) inspect(id string) (Details, error) {
	st, c, err := r.observe(id)
	if err != nil {
		return Details{}, err
	}
	d := Details{Dir: r.path(id), Root: r.path(id, "root"), LogDir: r.path(id, "log"), StartedAt: st.StartedAt}
	if st.State != lifecycle.Running {
		return d, nil
	}
	// The first process leads its session.
	d.PID, d.Group, d.Ports = st.PID, st.PID, st.Addresses
	if c.Owner != nil && r.supervised(id, c) {
		d.Supervisor = c.Owner.Process.PID
	}
	procs, err := members(id, c.Process)
	for _, p := range procs {
		d.Processes = append(d.Processes, p.PID)
	}
	return d, err
}

// The optional abilities.
var (
	_ runtime.Logger    = (*Runtime)(nil)
	_ runtime.Execer    = (*Runtime)(nil)
	_ runtime.Statser   = (*Runtime)(nil)
	_ runtime.Inspector = (*Runtime)(nil)
)
