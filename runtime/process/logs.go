//go:build linux || darwin

package process

import (
	"context"
	"iter"

	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// Logs yields what a container wrote, line by line. With Follow, a container
// that was created and not started is waited for.
func (r *Runtime) Logs(ctx context.Context, id string, opts runtime.LogOptions) iter.Seq2[runtime.LogEntry, error] {
	return logfile.Container{
		Path:   r.path(id, "log"),
		Exists: func() error { return r.exists(id) },
		Stopped: func(ctx context.Context) {
			// An error is the end of ctx, or of the container's data.
			_, _ = r.await(ctx, id, func(st runtime.Status) bool { return st.State == lifecycle.Stopped })
		},
		Life: r.ctx,
		Wrap: func(err error) error { return opError("logs", id, err) },
	}.Entries(ctx, opts)
}
