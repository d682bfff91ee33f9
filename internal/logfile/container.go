package logfile

import (
	"context"
	"iter"
	"sync"

	"github.com/budgiehq/budgie/runtime"
)

// Container is the log of a container, as the runtime that keeps it sees it.
type Container struct {
	// Path is where the log lies.
	Path string
	// Exists returns an error where the runtime has no such container.
	Exists func() error
	// Stopped returns when the container has stopped, or ctx ends.
	Stopped func(ctx context.Context)
	// Life ends when the runtime is closed, with the error to say so.
	Life context.Context
	// Wrap names the operation and the container in an error.
	Wrap func(error) error
}

// Entries yields what the container wrote as [runtime.Logger] says it: the end of ctx
// ends the sequence without an error, that of the runtime with one.
func (c Container) Entries(ctx context.Context, opts runtime.LogOptions) iter.Seq2[runtime.LogEntry, error] {
	return func(yield func(runtime.LogEntry, error) bool) {
		if err := c.usable(); err != nil {
			yield(runtime.LogEntry{}, c.Wrap(err))
			return
		}
		// Not counted among the calls that the runtime's Close waits for: the caller may
		// well call Close from within the loop.
		reading, cancel := context.WithCancel(ctx)
		defer context.AfterFunc(c.Life, cancel)()
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		ended := make(chan struct{})
		if opts.Follow {
			wg.Go(func() {
				c.Stopped(reading)
				close(ended)
			})
		}
		for e, err := range Read(reading, c.Path, Options{Tail: opts.Tail, Follow: opts.Follow, Ended: ended}) {
			if err != nil {
				yield(runtime.LogEntry{}, c.Wrap(err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if c.Life.Err() != nil && ctx.Err() == nil {
			yield(runtime.LogEntry{}, c.Wrap(context.Cause(c.Life)))
		}
	}
}

func (c Container) usable() error {
	if c.Life.Err() != nil {
		return context.Cause(c.Life)
	}
	return c.Exists()
}
