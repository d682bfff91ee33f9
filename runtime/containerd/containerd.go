//go:build linux

package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budgiehq/budgie/internal/freeport"
	"github.com/budgiehq/budgie/internal/keylock"
	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// Runtime runs containers on containerd. It implements budgie.Runtime,
// [runtime.Logger], [runtime.Execer], [runtime.Puller], [runtime.ImageSource],
// [runtime.ImageSink], [runtime.Statser], [runtime.Inspector] and
// [runtime.Releaser].
type Runtime struct {
	options
	locks keylock.Locks // by container id
	refs  keylock.Locks // by image reference
	ports freeport.Pool
	pipes *logpipe.Reader
	// owners are those of blobs that others read.
	owners owners
	// content is the directory of containerd's content store, nil while unknown.
	content atomic.Pointer[string]

	// ctx ends with Close.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// calls are the methods under way, watchers the goroutines of runs.
	calls, watchers sync.WaitGroup

	mu     sync.Mutex
	closed bool
	// The constants of these names.
	answerPatience, endPatience time.Duration
	// conn is nil before it is first needed.
	conn *client.Client
	// runs are the containers that this value supervises, and those whose end
	// it could not record.
	runs map[string]*run
}

var errClosed = fmt.Errorf("containerd runtime: %w", os.ErrClosed)

// New opens the runtime. It does not talk to containerd before it has to, and
// touches no file: whether there is a containerd shows with the first call. Any
// number of processes may have the same data directory open.
func New(opts ...Option) (*Runtime, error) {
	o := newOptions(opts)
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, fmt.Errorf("containerd runtime: %w", err)
	}
	o.dir = dir
	pipes, err := logpipe.NewReader()
	if err != nil {
		return nil, fmt.Errorf("containerd runtime: %w", err)
	}
	r := &Runtime{options: o, pipes: pipes, runs: map[string]*run{}, answerPatience: answerPatience, endPatience: endPatience}
	r.ctx, r.cancel = context.WithCancelCause(quiet(context.Background()))
	return r, nil
}

// Name returns "containerd".
func (r *Runtime) Name() string { return Name }

// Close stops supervising and disconnects. The containers go on running; what
// they write is kept in their pipes for the next supervisor, until those are
// full, from when on a container that writes waits. It can be called again.
func (r *Runtime) Close() error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	r.mu.Unlock()
	r.cancel(errClosed)
	r.calls.Wait()
	r.watchers.Wait()
	if !first {
		return nil
	}
	err := r.pipes.Close()
	if r.conn != nil {
		err = errors.Join(err, r.conn.Close())
	}
	return err
}

// enter begins a call. The context ends with the caller's or with Close,
// whichever is first, and done must be called. It turns the call's error into
// one that says which operation on which container failed.
func (r *Runtime) enter(ctx context.Context, op, id string) (_ context.Context, done func(error) error, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, opError(op, id, errClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, opError(op, id, err)
	}
	r.calls.Add(1)
	ctx, cancel := r.until(during(quiet(ctx), op, id))
	return ctx, func(err error) error {
		defer r.calls.Done()
		defer cancel()
		err = r.explainOutage(ctx, err)
		// gRPC has errors of its own for the end of a context.
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return opError(op, id, err)
	}, nil
}

// quiet keeps containerd's packages from writing to the standard error: what
// they have to say is in their errors.
func quiet(ctx context.Context) context.Context {
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	silent.SetLevel(logrus.PanicLevel)
	return log.WithLogger(ctx, logrus.NewEntry(silent))
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
	ctx, done, err := r.enter(ctx, "status", id)
	if err != nil {
		return runtime.Status{}, err
	}
	st, err := r.status(ctx, id)
	return st, done(err)
}

func (r *Runtime) status(ctx context.Context, id string) (runtime.Status, error) {
	r.mu.Lock()
	n := r.runs[id]
	r.mu.Unlock()
	if n != nil {
		return n.status(), nil
	}
	st, _, err := r.observe(ctx, id)
	return st, err
}

// List returns the status of all containers, sorted by id.
func (r *Runtime) List(ctx context.Context) ([]runtime.Status, error) {
	ctx, done, err := r.enter(ctx, "list", "")
	if err != nil {
		return nil, err
	}
	all, err := r.list(ctx)
	return all, done(err)
}

func (r *Runtime) list(ctx context.Context) ([]runtime.Status, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []runtime.Status
	for _, e := range entries {
		if runtime.CheckID(e.Name()) != nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		st, err := r.status(ctx, e.Name())
		if errors.Is(err, runtime.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("%.12s: %w", e.Name(), err)
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b runtime.Status) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (r *Runtime) logLimit() logfile.Limit {
	return logfile.Limit{Bytes: r.logBytes, Files: r.logFiles}
}

// opError says which operation on which container failed. What cannot run is said
// by whoever chooses a runtime.
func opError(op, id string, err error) error {
	switch {
	case err == nil || op == "supports":
		return err
	case id == "":
		return fmt.Errorf("containerd runtime: %s: %w", op, err)
	}
	return fmt.Errorf("containerd runtime: %s %.12s: %w", op, id, err)
}
