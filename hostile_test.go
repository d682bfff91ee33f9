package budgie_test

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
)

// hangingRuntime blocks in Start until the context ends, as a runtime may that
// waits for a network.
type hangingRuntime struct {
	*runtimetest.Fake
	begun chan struct{}
}

func (r *hangingRuntime) Start(ctx context.Context, _ string) (runtime.Status, error) {
	r.begun <- struct{}{}
	<-ctx.Done()
	return runtime.Status{}, ctx.Err()
}

// hangingDiscoverer blocks in Announce until the context ends.
type hangingDiscoverer struct {
	*discoverytest.Node
	begun chan struct{}
}

func (d *hangingDiscoverer) Announce(ctx context.Context, _ discovery.Service) error {
	d.begun <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// What hangs in a component is interrupted by whatever ends the container.
func TestHangingComponents(t *testing.T) {
	for _, where := range []string{"start", "announce"} {
		for name, end := range map[string]func(c *budgie.Client, cancel func()){
			"context": func(_ *budgie.Client, cancel func()) { cancel() },
			"close":   func(c *budgie.Client, _ func()) { _ = c.Close() },
			"kill":    func(c *budgie.Client, _ func()) { c.Kill() },
			"stop":    func(c *budgie.Client, _ func()) { _ = c.Stop(context.Background(), "web") },
		} {
			t.Run(where+"/"+name, func(t *testing.T) {
				begun := make(chan struct{}, 1)
				fake := runtimetest.NewFake()
				node := discoverytest.NewNetwork().Join()
				opts := []budgie.Option{budgie.WithStore(memory.New()), budgie.WithLoopback(), budgie.WithDataDir(t.TempDir())}
				if where == "start" {
					opts = append(opts, budgie.WithRuntime(&hangingRuntime{fake, begun}), budgie.WithDiscoverer(node))
				} else {
					opts = append(opts, budgie.WithRuntime(fake), budgie.WithDiscoverer(&hangingDiscoverer{node, begun}))
				}
				c, err := budgie.New(opts...)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					_ = c.Close()
					fake.Shutdown()
					_ = node.Close()
				}()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				returned := make(chan error, 1)
				go func() {
					_, err := c.Run(ctx, web("web"))
					returned <- err
				}()
				<-begun
				end(c, cancel)
				select {
				case <-returned: // with an error, or just ready when it was ended
				case <-time.After(20 * time.Second):
					t.Fatal("Run does not return")
				}
			})
		}
	}
}

func TestReadyTimeoutInterruptsAStart(t *testing.T) {
	fake := &hangingRuntime{runtimetest.NewFake(), make(chan struct{}, 1)}
	c, err := budgie.New(budgie.WithStore(memory.New()), budgie.WithLoopback(), budgie.WithRuntime(fake), budgie.WithoutDiscovery(), budgie.WithDataDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, err = c.Run(t.Context(), web("web"), budgie.ReadyWithin(50*time.Millisecond))
	if !errors.Is(err, budgie.ErrNotReady) {
		t.Fatalf("got %v", err)
	}
}

// Every entry reaches OnLog before Close returns, however slow it is, and
// before the log is removed.
func TestOnLogGetsEverything(t *testing.T) {
	const n = 3000
	for name, opts := range map[string][]budgie.RunOption{"kept": nil, "removed": {budgie.AutoRemove()}} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t)
			c := f.client(t)
			spec := web("job")
			spec.Ports, spec.Healthcheck = nil, nil
			spec.Image.DockerImage, spec.Image.Command = "", runtimetest.FakeCommand("count", fmt.Sprint(n))
			var got atomic.Int64
			rec, err := c.Run(t.Context(), spec, append(opts, budgie.OnLog(func(lifecycle.Container, runtime.LogEntry) {
				if got.Add(1) == 1 {
					// As slow as a consumer that still has it all to read when
					// the container is long gone.
					<-time.After(300 * time.Millisecond)
				}
			}))...)
			if err != nil {
				t.Fatal(err)
			}
			if done, err := c.Wait(t.Context(), rec.ID); err != nil || done.Exit == nil || done.Exit.Code != 0 {
				t.Fatalf("%+v, %v", done, err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if got.Load() < n {
				t.Errorf("%d of %d lines", got.Load(), n)
			}
		})
	}
}

func TestSuperviseEndsWithItsClient(t *testing.T) {
	for name, opts := range map[string][]budgie.SuperviseOption{"until idle": nil, "resident": {budgie.Resident()}} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t)
			sup := f.client(t)
			first := supervise(t, f.client(t))
			if _, err := runDetached(t, f.Client, always(web("web"))); err != nil {
				t.Fatal(err)
			}
			_ = first()
			done := make(chan error, 1)
			go func() { done <- sup.Supervise(context.Background(), opts...) }()
			eventually(t, f.Client, "web", "the adoption", func(r lifecycle.Container) bool { return !r.Unsupervised })
			if err := sup.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; !errors.Is(err, budgie.ErrClosed) {
				t.Errorf("Supervise returned %v", err)
			}
			if alive, err := f.store.Alive(t.Context(), "supervisor"); err != nil || alive {
				t.Errorf("the name is still held: %v, %v", alive, err)
			}
		})
	}
}

// A supervisor that was told to stay waits its turn.
func TestResidentSupervisorWaitsItsTurn(t *testing.T) {
	f := newFakes(t)
	first := supervise(t, f.client(t))
	if _, err := runDetached(t, f.Client, always(web("web"))); err != nil {
		t.Fatal(err)
	}
	supervise(t, f.client(t))
	_ = first()
	eventually(t, f.Client, "web", "the next supervisor", func(r lifecycle.Container) bool { return !r.Unsupervised })
}

// What a program with another runtime left behind does not keep this one from
// running anything.
func TestOrphanOfAnUnknownRuntime(t *testing.T) {
	f := newFakes(t)
	orphan := lifecycle.Container{
		ID: fmt.Sprintf("%064x", 0xdead), Name: "orphan", Runtime: "elsewhere", Owner: "client-dead",
		State: lifecycle.Running, Desired: lifecycle.WantRunning, CreatedAt: time.Now(),
	}
	if _, err := f.store.Put(t.Context(), orphan); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	if got, err := f.store.Get(t.Context(), orphan.ID); err != nil || got.Owner != "client-dead" {
		t.Errorf("taken over by %s, %v", got.Owner, err)
	}
}

// Waiting goes on when the client that waits stops supervising.
func TestWaitOutlivesTheSupervision(t *testing.T) {
	f := newFakes(t)
	end := supervise(t, f.Client)
	rec, err := runDetached(t, f.Client, always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan lifecycle.Container, 1)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		got, err := f.Wait(t.Context(), rec.ID)
		if err != nil {
			t.Error(err)
		}
		waited <- got
	})
	_ = end()
	if err := f.Stop(t.Context(), rec.ID); err != nil {
		t.Fatal(err)
	}
	waiting.Wait()
	if got := <-waited; !got.Finished() {
		t.Errorf("Wait returned a container that is %s", got.State)
	}
}

func TestRunRacesClose(t *testing.T) {
	for range 30 {
		f := newFakes(t)
		c := f.client(t)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				if _, err := c.Run(t.Context(), web(fmt.Sprintf("web-%d", i))); err != nil && !errors.Is(err, budgie.ErrClosed) && !errors.Is(err, budgie.ErrNotReady) && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		for _, st := range must(f.runtime.List(t.Context())) {
			if st.State == lifecycle.Running {
				t.Fatalf("left running: %+v", st)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestBalanceDoesNotLeak(t *testing.T) {
	_, client := replicas(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	taken, err := client.Balance(ctx, "web", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	before := goruntime.NumGoroutine()
	for range 50 {
		f, err := client.Balance(ctx, "web", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Balance(ctx, "web", taken.Addr().String()); err == nil {
			t.Fatal("two frontends on one address")
		}
	}
	for deadline := time.Now().Add(10 * time.Second); goruntime.NumGoroutine() > before+10; goruntime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, then %d", before, goruntime.NumGoroutine())
		}
	}
}

func TestBindAddressIsChecked(t *testing.T) {
	if _, err := budgie.New(budgie.WithDataDir(t.TempDir()), budgie.WithBindAddress("localhost")); err == nil {
		t.Error("a name is not an address")
	}
}

// The last probe's error is in the reason.
func TestNotReadySaysWhatTheProbeSaw(t *testing.T) {
	f := newFakes(t, runtimetest.WithHandler(status(418)))
	_, err := f.Run(t.Context(), web("web"), budgie.ReadyWithin(200*time.Millisecond))
	if notReady, ok := errors.AsType[*budgie.NotReadyError](err); !ok || !containsAll(notReady.Reason, "GET /", "418") {
		t.Fatalf("got %v", err)
	}
}

// A container that crashes again and again is given up with what it did.
func TestNotReadySaysThatItCrashes(t *testing.T) {
	f := newFakes(t)
	spec := always(web("web"))
	spec.Image.DockerImage, spec.Image.Command = "", runtimetest.FakeCommand("exit", "9")
	_, err := f.Run(t.Context(), spec, budgie.ReadyWithin(600*time.Millisecond))
	if notReady, ok := errors.AsType[*budgie.NotReadyError](err); !ok || !containsAll(notReady.Reason, "restarted") {
		t.Fatalf("got %v", err)
	}
}

func containsAll(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// A container that was created and never ran has a log without an end.
func TestLogOfWhatNeverRan(t *testing.T) {
	f := newFakes(t, fault("start", errors.New("no room for the arguments"))...)
	c := f.client(t)
	_, err := c.Run(t.Context(), web("web"), budgie.OnLog(func(lifecycle.Container, runtime.LogEntry) {}), budgie.AutoRemove())
	if !errors.Is(err, budgie.ErrNotReady) {
		t.Fatal(err)
	}
	if _, err := c.Run(t.Context(), web("kept"), budgie.OnLog(func(lifecycle.Container, runtime.LogEntry) {})); !errors.Is(err, budgie.ErrNotReady) {
		t.Fatal(err)
	}
	for e, err := range c.Logs(t.Context(), "kept", runtime.LogOptions{Follow: true}) {
		t.Errorf("%+v, %v", e, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// A supervisor neither spins on a container that it cannot run nor stays for it.
func TestSuperviseLeavesAnUnknownRuntimeAlone(t *testing.T) {
	f := newFakes(t)
	stranger := lifecycle.Container{
		ID: fmt.Sprintf("%064x", 0xbeef), Name: "stranger", Runtime: "elsewhere", Owner: "supervisor", Detached: true,
		State: lifecycle.Running, Desired: lifecycle.WantRunning, CreatedAt: time.Now(),
	}
	if _, err := f.store.Put(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	if err := f.Supervise(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A container that another program was about to stop is not forgotten when that
// program dies.
func TestSupervisorOutlastsATakeOver(t *testing.T) {
	f := newFakes(t)
	end := supervise(t, f.client(t))
	rec, err := runDetached(t, f.Client, always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	_ = end()
	release, err := f.store.Acquire(t.Context(), "client-stopper")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := f.store.Get(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	stored.Owner, stored.Desired = "client-stopper", lifecycle.WantStopped
	if _, err := f.store.Put(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	last := f.client(t)
	go func() { done <- last.Supervise(t.Context()) }()
	eventually(t, f.Client, "web", "the supervisor", func(lifecycle.Container) bool {
		alive, err := f.store.Alive(t.Context(), "supervisor")
		return err == nil && alive
	})
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, err := f.Get(t.Context(), "web"); err != nil || got.State != lifecycle.Stopped {
		t.Errorf("%+v, %v", got, err)
	}
}

// Following from the end shows nothing old, also after a restart.
func TestFollowFromTheEnd(t *testing.T) {
	f := newFakes(t)
	rec, err := f.Run(t.Context(), always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.runtime.Log(rec.ID, "old"); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for e := range f.Logs(t.Context(), "web", runtime.LogOptions{Follow: true, Tail: -1}) {
			lines <- e.Line
		}
	}()
	if err := f.runtime.Crash(rec.ID, 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, f.Client, "web", "a restart", func(r lifecycle.Container) bool { return r.Restarts == 1 && r.Ready })
	if err := f.runtime.Log(rec.ID, "new"); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	for l := range lines {
		if l == "old" {
			t.Error("an old line came")
		}
	}
}

// Whoever waits for a container that removes itself learns how it ended, at
// every moment.
func TestWaitForAutoRemoved(t *testing.T) {
	f := newFakes(t)
	rec, err := f.Run(t.Context(), web("web"), budgie.AutoRemove())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got, err := f.Wait(t.Context(), rec.ID); err != nil || got.Exit == nil || got.Exit.Code != 3 {
					t.Errorf("%+v, %v", got, err)
					return
				}
			}
		})
	}
	if err := f.runtime.Crash(rec.ID, 3); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}
