//go:build linux || darwin

package process

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/budgiehq/budgie/internal/freeport"
	"github.com/budgiehq/budgie/internal/keylock"
	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/runtime"
)

// Runtime runs containers as processes. It implements budgie.Runtime,
// [runtime.Logger], [runtime.Execer], [runtime.Statser], [runtime.Inspector] and
// [runtime.Releaser].
type Runtime struct {
	dir string
	options
	// self says who supervises: this process, and this value in it.
	self  owner
	locks keylock.Locks
	ports freeport.Pool
	pipes *logpipe.Reader

	// ctx ends with Close.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// calls are the methods under way, watchers the goroutines of runs.
	calls, watchers sync.WaitGroup
	warnLimits      sync.Once

	mu     sync.Mutex
	closed bool
	// runs are the containers that this value supervises, and those whose end
	// it could not record.
	runs map[string]*run
}

var errClosed = fmt.Errorf("process runtime: %w", os.ErrClosed)

// New opens the runtime whose containers are in dir, which is created if
// needed. Any number of processes may have it open at the same time.
func New(dir string, opts ...Option) (*Runtime, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("process runtime: %w", err)
	}
	if err := ownership.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("process runtime: create data directory: %w", err)
	}
	self, err := identify(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("process runtime: %w", err)
	}
	pipes, err := logpipe.NewReader()
	if err != nil {
		return nil, fmt.Errorf("process runtime: %w", err)
	}
	r := &Runtime{
		dir:     dir,
		options: newOptions(opts),
		self:    owner{Process: self.identity, Instance: rand.Text()},
		pipes:   pipes,
		runs:    map[string]*run{},
	}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	return r, nil
}

// Name returns "process".
func (r *Runtime) Name() string { return Name }

// Close stops supervising. The containers go on running; what they write is
// kept in their pipes for the next supervisor. It can be called again.
func (r *Runtime) Close() error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	r.mu.Unlock()
	r.cancel(errClosed)
	r.calls.Wait()
	r.watchers.Wait()
	if first {
		return r.pipes.Close()
	}
	return nil
}

// enter begins a call. The context ends with the caller's or with Close,
// whichever is first, and done must be called.
func (r *Runtime) enter(ctx context.Context) (_ context.Context, done func(), _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	r.calls.Add(1)
	ctx, cancel := r.until(ctx)
	return ctx, func() { cancel(); r.calls.Done() }, nil
}

// until returns a context that ends with ctx or with Close.
func (r *Runtime) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.ctx, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// current returns the run of a container that this value supervises, or nil.
func (r *Runtime) current(id string) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.runs[id]; n != nil && !n.over() {
		return n
	}
	return nil
}

// Status returns what is seen of a container now.
func (r *Runtime) Status(ctx context.Context, id string) (runtime.Status, error) {
	_, done, err := r.enter(ctx)
	if err != nil {
		return runtime.Status{}, opError("status", id, err)
	}
	defer done()
	st, err := r.status(id)
	return st, opError("status", id, err)
}

func (r *Runtime) status(id string) (runtime.Status, error) {
	r.mu.Lock()
	n := r.runs[id]
	r.mu.Unlock()
	if n != nil {
		return n.status(), nil
	}
	st, _, err := r.observe(id)
	return st, err
}

// List returns the status of all containers, sorted by id.
func (r *Runtime) List(ctx context.Context) ([]runtime.Status, error) {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return nil, opError("list", "", err)
	}
	defer done()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, opError("list", "", err)
	}
	var out []runtime.Status
	for _, e := range entries {
		if runtime.CheckID(e.Name()) != nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, opError("list", "", context.Cause(ctx))
		}
		st, err := r.status(e.Name())
		if errors.Is(err, runtime.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, opError("list", e.Name(), err)
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b runtime.Status) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (r *Runtime) logLimit() logfile.Limit {
	return logfile.Limit{Bytes: r.logBytes, Files: r.logFiles}
}

// opError says which operation on which container failed.
func opError(op, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case id == "":
		return fmt.Errorf("process runtime: %s: %w", op, err)
	}
	return fmt.Errorf("process runtime: %s %.12s: %w", op, id, err)
}
