package runtimetest

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// Fake is a runtime in memory. It implements budgie.Runtime, [runtime.Logger],
// [runtime.Execer], [runtime.Puller], [runtime.ImageSource], [runtime.ImageSink],
// [runtime.Statser] and [runtime.Inspector], and passes the suite. It starts no process: a container is a record, a log and,
// for each of its ports, a server on a loopback address: one of HTTP for TCP, and
// one that sends datagrams back for UDP. It accepts every specification, images
// included, without looking at its paths.
//
// A container whose command is one of [Program], as [FakeCommand] makes it,
// behaves as the program would, without its side effects. Any other one runs
// until it is stopped, which it obeys at once with exit code 143, or crashed.
//
// Call Shutdown at the end of a test: as the contract says, Close leaves the
// containers running.
type Fake struct {
	opts   fakeOptions
	world  *fakeWorld
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// fakeWorld is what the Fakes of the same data share.
type fakeWorld struct {
	mu         sync.Mutex
	containers map[string]*fakeContainer
	images     map[string]runtime.Descriptor // their roots, by name
	blobs      map[string][]byte             // by digest
	lastPID    int
	wg         sync.WaitGroup
}

// A FakeOption changes a default of [NewFake].
type FakeOption func(*fakeOptions)

type fakeOptions struct {
	name       string
	handler    http.Handler
	startDelay time.Duration
	fault      func(op, id string) error
	exec       func(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error)
}

// WithName sets the runtime's name; the default is "fake".
func WithName(name string) FakeOption { return func(o *fakeOptions) { o.name = name } }

// WithHandler sets what answers on the containers' TCP ports. The default
// answers 200 with the container's name. Requests carry the container's id in
// the header [HeaderContainer].
func WithHandler(h http.Handler) FakeOption { return func(o *fakeOptions) { o.handler = h } }

// HeaderContainer is a header that a Fake adds to each request and response,
// with the id of the container that serves it.
const HeaderContainer = "Budgie-Container"

// WithStartDelay makes every Start take so long.
func WithStartDelay(d time.Duration) FakeOption { return func(o *fakeOptions) { o.startDelay = d } }

// WithFault makes a call fail, before it has done anything, with the error that
// fault returns, if any. op is the method's name in lower case: "create",
// "start" and so on. fault may be called concurrently.
func WithFault(fault func(op, id string) error) FakeOption {
	return func(o *fakeOptions) { o.fault = fault }
}

// WithExec sets what Exec does in a running container. The default runs the
// verbs of [Program] that need no process, finds neither programs nor working
// directories with "no-such" in their names, and returns 0 for any other command.
func WithExec(exec func(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error)) FakeOption {
	return func(o *fakeOptions) { o.exec = exec }
}

// FakeCommand returns a command that a Fake's container understands as those of
// [Program].
func FakeCommand(args ...string) []string { return append([]string{programSwitch}, args...) }

// NewFake returns a runtime without containers.
func NewFake(opts ...FakeOption) *Fake {
	o := fakeOptions{name: "fake", fault: func(string, string) error { return nil }}
	for _, opt := range opts {
		opt(&o)
	}
	return newFake(o, &fakeWorld{containers: map[string]*fakeContainer{}, images: map[string]runtime.Descriptor{}, blobs: map[string][]byte{}, lastPID: 1000})
}

func newFake(o fakeOptions, w *fakeWorld) *Fake {
	f := &Fake{opts: o, world: w}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	return f
}

// Reopen returns another Fake with the same containers and options, as a
// program has it that starts after f's has died. f stays usable.
func (f *Fake) Reopen() *Fake { return newFake(f.opts, f.world) }

// Shutdown kills all containers, waits for their servers, and closes f.
func (f *Fake) Shutdown() {
	w := f.world
	w.mu.Lock()
	for _, c := range w.containers {
		c.signal(true)
	}
	w.mu.Unlock()
	w.wg.Wait()
	_ = f.Close()
}

// Crash ends a running container with an exit code, as if by itself. It
// returns when that can be seen.
func (f *Fake) Crash(id string, code int) error {
	c, err := f.find(id)
	if err != nil {
		return f.errorf("crash", id, err)
	}
	f.world.mu.Lock()
	run := c.run
	f.world.mu.Unlock()
	if run == nil {
		return f.errorf("crash", id, runtime.ErrNotRunning)
	}
	select {
	case run.crash <- code:
	default: // is ending already
	}
	<-run.done
	return nil
}

// Log adds a line to a container's standard output.
func (f *Fake) Log(id, line string) error {
	c, err := f.find(id)
	if err != nil {
		return f.errorf("log", id, err)
	}
	c.log(runtime.Stdout, line)
	return nil
}

// Name returns "fake", or what WithName said.
func (f *Fake) Name() string { return f.opts.name }

// Close ends the calls under way. The containers go on running.
func (f *Fake) Close() error {
	f.cancel(f.errorf("", "", os.ErrClosed))
	return nil
}

func (f *Fake) errorf(op, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s runtime: %s %.12s: %w", f.opts.name, op, id, err)
}

// enter begins a call: its context ends with Close, too.
func (f *Fake) enter(ctx context.Context, op, id string) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(f.ctx, func() { cancel(context.Cause(f.ctx)) })
	done := func() { stop(); cancel(nil) }
	err := context.Cause(f.ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = f.opts.fault(op, id)
	}
	if err != nil {
		done()
		return nil, nil, f.errorf(op, id, err)
	}
	return ctx, done, nil
}

func (f *Fake) find(id string) (*fakeContainer, error) {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	c := f.world.containers[id]
	if c == nil {
		return nil, runtime.ErrNotFound
	}
	return c, nil
}

// Supports accepts every specification.
func (f *Fake) Supports(ctx context.Context, _ bunfile.Spec) error {
	_, done, err := f.enter(ctx, "supports", "")
	if err != nil {
		return err
	}
	done()
	return nil
}

// Create makes the record.
func (f *Fake) Create(ctx context.Context, cfg runtime.Config) error {
	_, done, err := f.enter(ctx, "create", cfg.ID)
	if err != nil {
		return err
	}
	defer done()
	if err := runtime.CheckID(cfg.ID); err != nil {
		return f.errorf("create", cfg.ID, err)
	}
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.containers[cfg.ID] != nil {
		return f.errorf("create", cfg.ID, runtime.ErrExists)
	}
	w.containers[cfg.ID] = &fakeContainer{
		world:   w,
		id:      cfg.ID,
		spec:    cfg.Spec.Clone(),
		busy:    make(chan struct{}, 1),
		changed: make(chan struct{}),
		state:   lifecycle.Created,
	}
	return nil
}

// Start starts the container's servers.
func (f *Fake) Start(ctx context.Context, id string) (runtime.Status, error) {
	ctx, done, err := f.enter(ctx, "start", id)
	if err != nil {
		return runtime.Status{}, err
	}
	defer done()
	c, err := f.find(id)
	if err != nil {
		return runtime.Status{}, f.errorf("start", id, err)
	}
	st, err := c.start(ctx, f.opts)
	return st, f.errorf("start", id, err)
}

// Adopt returns the container's status: the containers belong to all Fakes of
// the same data.
func (f *Fake) Adopt(ctx context.Context, id string) (runtime.Status, error) {
	return f.look(ctx, "adopt", id)
}

// Status returns the container's status.
func (f *Fake) Status(ctx context.Context, id string) (runtime.Status, error) {
	return f.look(ctx, "status", id)
}

func (f *Fake) look(ctx context.Context, op, id string) (runtime.Status, error) {
	_, done, err := f.enter(ctx, op, id)
	if err != nil {
		return runtime.Status{}, err
	}
	defer done()
	c, err := f.find(id)
	if err != nil {
		return runtime.Status{}, f.errorf(op, id, err)
	}
	return c.status(), nil
}

// List returns the status of all containers, sorted by id.
func (f *Fake) List(ctx context.Context) ([]runtime.Status, error) {
	_, done, err := f.enter(ctx, "list", "")
	if err != nil {
		return nil, err
	}
	defer done()
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	var out []runtime.Status
	for _, c := range f.world.containers {
		out = append(out, c.statusLocked())
	}
	slices.SortFunc(out, func(a, b runtime.Status) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// Stop ends the container: at once, unless its command is a stubborn one.
func (f *Fake) Stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, done, err := f.enter(ctx, "stop", id)
	if err != nil {
		return err
	}
	defer done()
	c, err := f.find(id)
	if err != nil {
		return f.errorf("stop", id, err)
	}
	return f.errorf("stop", id, c.stop(ctx, grace))
}

// Remove forgets the container.
func (f *Fake) Remove(ctx context.Context, id string) error {
	ctx, done, err := f.enter(ctx, "remove", id)
	if err != nil {
		return err
	}
	defer done()
	c, err := f.find(id)
	if err != nil {
		return f.errorf("remove", id, err)
	}
	return f.errorf("remove", id, c.remove(ctx))
}

// Wait blocks until the container does not run.
func (f *Fake) Wait(ctx context.Context, id string) (runtime.Status, error) {
	ctx, done, err := f.enter(ctx, "wait", id)
	if err != nil {
		return runtime.Status{}, err
	}
	defer done()
	c, err := f.find(id)
	if err != nil {
		return runtime.Status{}, f.errorf("wait", id, err)
	}
	for {
		f.world.mu.Lock()
		st, changed := c.statusLocked(), c.changed
		f.world.mu.Unlock()
		if st.State != lifecycle.Running {
			return st, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return runtime.Status{}, f.errorf("wait", id, context.Cause(ctx))
		}
	}
}
