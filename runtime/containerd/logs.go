//go:build linux

package containerd

import (
	"context"
	"iter"
	"sync"

	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// Logs yields what a container wrote, line by line. With Follow, a container
// that was created and not started is waited for.
func (r *Runtime) Logs(ctx context.Context, id string, opts runtime.LogOptions) iter.Seq2[runtime.LogEntry, error] {
	return func(yield func(runtime.LogEntry, error) bool) {
		fail := func(err error) { yield(runtime.LogEntry{}, opError("logs", id, err)) }
		if r.ctx.Err() != nil {
			fail(errClosed)
			return
		}
		if err := r.exists(id); err != nil {
			fail(err)
			return
		}
		caller := ctx
		// Not counted among the calls that Close waits for: the caller may well
		// call Close from within the loop.
		ctx, cancel := r.until(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		ended := make(chan struct{})
		if opts.Follow {
			wg.Go(func() {
				// An error is the end of ctx, or of the container's data.
				_, _ = r.await(ctx, id, func(st runtime.Status) bool { return st.State == lifecycle.Stopped })
				close(ended)
			})
		}
		read := logfile.Read(ctx, r.path(id, "log"), logfile.Options{Tail: opts.Tail, Follow: opts.Follow, Ended: ended})
		for e, err := range read {
			if err != nil {
				fail(err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if r.ctx.Err() != nil && caller.Err() == nil {
			fail(errClosed)
		}
	}
}
