package runtimetest

import (
	"context"
	"io"
	"iter"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// fakeContainer is a container of a Fake. What is not constant is guarded by
// the world's mutex.
type fakeContainer struct {
	world *fakeWorld
	id    string
	spec  bunfile.Spec
	// busy excludes those that change the container.
	busy chan struct{}

	// changed is closed, and replaced, with every change and log entry.
	changed   chan struct{}
	state     lifecycle.State
	startedAt time.Time
	exit      *lifecycle.Exit
	entries   []runtime.LogEntry
	run       *fakeRun // nil while not running
	removed   bool
	// cpu is what the commands of Exec have used in the present run, memory what
	// they use, and commands are those under way.
	cpu      time.Duration
	memory   uint64
	commands int
}

// fakeRun is one running of a container.
type fakeRun struct {
	pid       int
	addresses []runtime.Address
	close     []func()
	term      chan struct{}
	termOnce  sync.Once
	kill      chan struct{}
	killOnce  sync.Once
	crash     chan int
	done      chan struct{}
}

func (c *fakeContainer) status() runtime.Status {
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	return c.statusLocked()
}

func (c *fakeContainer) statusLocked() runtime.Status {
	st := runtime.Status{ID: c.id, State: c.state, StartedAt: c.startedAt}
	if c.run != nil {
		st.PID = c.run.pid
		st.Addresses = append(st.Addresses, c.run.addresses...)
	}
	if c.exit != nil {
		exit := *c.exit
		st.Exit = &exit
	}
	return st
}

// change tells those who wait that something is different. The world is locked.
func (c *fakeContainer) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeContainer) log(stream runtime.LogStream, line string) {
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	c.entries = append(c.entries, runtime.LogEntry{Time: time.Now(), Stream: stream, Line: line})
	c.change()
}

// lock excludes other changes. A container that was removed is not found.
func (c *fakeContainer) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case c.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	if c.removed {
		<-c.busy
		return nil, runtime.ErrNotFound
	}
	return func() { <-c.busy }, nil
}

func (c *fakeContainer) start(ctx context.Context, o fakeOptions) (runtime.Status, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return runtime.Status{}, err
	}
	defer unlock()
	if c.status().State == lifecycle.Running {
		return runtime.Status{}, runtime.ErrRunning
	}
	if o.startDelay > 0 {
		t := time.NewTimer(o.startDelay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return runtime.Status{}, context.Cause(ctx)
		}
	}
	run := &fakeRun{
		term:  make(chan struct{}),
		kill:  make(chan struct{}),
		crash: make(chan int, 1),
		done:  make(chan struct{}),
	}
	if err := c.listen(run, o.handler); err != nil {
		run.closeAll()
		return runtime.Status{}, err
	}
	w := c.world
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastPID++
	run.pid = w.lastPID
	c.run, c.state, c.startedAt, c.exit, c.cpu = run, lifecycle.Running, time.Now(), nil, 0
	c.change()
	st := c.statusLocked()
	w.wg.Go(func() { c.live(run) })
	return st, nil
}

// listen opens the container's ports.
func (c *fakeContainer) listen(run *fakeRun, h http.Handler) error {
	if h == nil {
		h = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, c.spec.Name) })
	}
	for _, p := range c.spec.Ports {
		a := runtime.Address{ContainerPort: p.ContainerPort, Protocol: p.Protocol}
		if p.Protocol == bunfile.UDP {
			conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				return err
			}
			a.HostPort = conn.LocalAddr().String()
			echoed := make(chan struct{})
			go func() {
				defer close(echoed)
				_ = echoDatagrams(conn) // until it is closed
			}()
			run.close = append(run.close, func() {
				conn.Close()
				<-echoed
			})
		} else {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				return err
			}
			a.Protocol, a.HostPort = bunfile.TCP, l.Addr().String()
			c.serve(run, l, h)
		}
		run.addresses = append(run.addresses, a)
	}
	return nil
}

func (c *fakeContainer) serve(run *fakeRun, l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(HeaderContainer, c.id)
		w.Header().Set(HeaderContainer, c.id)
		h.ServeHTTP(w, r)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	run.close = append(run.close, func() {
		// A Close that comes before Serve has begun does not know the listener.
		l.Close()
		srv.Close()
		<-served
	})
}

func (r *fakeRun) closeAll() {
	for _, f := range r.close {
		f()
	}
}

// live is the container's life from start to end.
func (c *fakeContainer) live(run *fakeRun) {
	code := c.behave(run)
	run.closeAll()
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	c.run, c.state = nil, lifecycle.Stopped
	c.exit = &lifecycle.Exit{Code: code, At: time.Now()}
	c.change()
	close(run.done)
}

// behave does what the command says and returns the exit code.
func (c *fakeContainer) behave(run *fakeRun) int {
	verb, args := fakeVerb(c.spec.Image.Command)
	term, onTerm := run.term, 128+15
	switch verb {
	case "print":
		for i, line := range args {
			c.log([]runtime.LogStream{runtime.Stdout, runtime.Stderr}[i%2], line)
		}
		return 0
	case "exit":
		return atoi(args)
	case "env":
		for _, key := range args {
			c.log(runtime.Stdout, key+"="+c.env(run, key))
		}
		return 0
	case "binary":
		for line := range strings.SplitSeq(binaryOutput, "\n") {
			c.log(runtime.Stdout, line)
		}
		return 0
	case "orphan":
		c.log(runtime.Stdout, strconv.Itoa(run.pid))
		return 0
	case "count":
		for i := range atoi(args) {
			c.log(runtime.Stdout, strconv.Itoa(i))
		}
		return 0
	case "serve", "echo":
		c.log(runtime.Stdout, "listening")
	case "spawn":
		c.log(runtime.Stdout, strconv.Itoa(run.pid))
	case "idle":
		c.log(runtime.Stdout, "ready")
	case "stubborn":
		c.log(runtime.Stdout, "ready")
		term = nil
	case "graceful":
		c.log(runtime.Stdout, "ready")
		onTerm = atoi(args)
	}
	select {
	case <-term:
		if verb == "graceful" {
			c.log(runtime.Stdout, "bye")
		}
		return onTerm
	case <-run.kill:
		return 128 + 9
	case code := <-run.crash:
		return code
	}
}

func fakeVerb(command []string) (verb string, args []string) {
	if len(command) < 2 || command[0] != programSwitch {
		return "", nil
	}
	return command[1], command[2:]
}

func atoi(args []string) int {
	if len(args) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(args[0])
	return n
}

// env returns what a process of the container would see of a variable.
func (c *fakeContainer) env(run *fakeRun, key string) string {
	switch key {
	case "BUDGIE_NAME":
		return c.spec.Name
	case "BUDGIE_CONTAINER_ID":
		return c.id
	case "PORT":
		for _, a := range run.addresses {
			if a.Protocol == bunfile.TCP {
				_, port, _ := net.SplitHostPort(a.HostPort)
				return port
			}
		}
	}
	for _, kv := range c.spec.Environment {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return v
		}
	}
	return ""
}

// signal asks the container to end, or kills it. The world is locked.
func (c *fakeContainer) signal(kill bool) {
	if c.run == nil {
		return
	}
	if kill {
		c.run.killOnce.Do(func() { close(c.run.kill) })
	} else {
		c.run.termOnce.Do(func() { close(c.run.term) })
	}
}

func (c *fakeContainer) stop(ctx context.Context, grace time.Duration) error {
	w := c.world
	w.mu.Lock()
	run := c.run
	c.signal(grace <= 0)
	w.mu.Unlock()
	if run == nil {
		return nil
	}
	if grace > 0 {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-run.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
		w.mu.Lock()
		if c.run == run {
			c.signal(true)
		}
		w.mu.Unlock()
	}
	select {
	case <-run.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *fakeContainer) remove(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	if c.run != nil {
		return runtime.ErrRunning
	}
	c.removed = true
	c.change()
	delete(c.world.containers, c.id)
	return nil
}

// Logs yields the container's entries.
func (f *Fake) Logs(ctx context.Context, id string, opts runtime.LogOptions) iter.Seq2[runtime.LogEntry, error] {
	return func(yield func(runtime.LogEntry, error) bool) {
		caller := ctx
		ctx, done, err := f.enter(ctx, "logs", id)
		if err != nil {
			if caller.Err() == nil {
				yield(runtime.LogEntry{}, err)
			}
			return
		}
		defer done()
		c, err := f.find(id)
		if err != nil {
			yield(runtime.LogEntry{}, f.errorf("logs", id, err))
			return
		}
		if !c.follow(ctx, opts, yield) && f.ctx.Err() != nil && caller.Err() == nil {
			yield(runtime.LogEntry{}, context.Cause(f.ctx))
		}
	}
}

// follow yields entries, and returns false if the context ended it.
func (c *fakeContainer) follow(ctx context.Context, opts runtime.LogOptions, yield func(runtime.LogEntry, error) bool) bool {
	next := -1
	for {
		c.world.mu.Lock()
		entries, state, changed := c.entries, c.state, c.changed
		removed := c.removed
		c.world.mu.Unlock()
		if next < 0 {
			switch next = 0; {
			case opts.Tail < 0:
				next = len(entries)
			case opts.Tail > 0:
				next = max(0, len(entries)-opts.Tail)
			}
		}
		for ; next < len(entries); next++ {
			if ctx.Err() != nil {
				return false
			}
			if !yield(entries[next], nil) {
				return true
			}
		}
		if !opts.Follow || state == lifecycle.Stopped || removed {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
