package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// fetch returns the body of a 200 answer.
func fetch(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %q, %v", url, res.Status, body, err)
	}
	return string(body)
}

// eventually waits until the container satisfies a condition.
func eventually(t *testing.T, c *budgie.Client, ref, what string, cond func(lifecycle.Container) bool) lifecycle.Container {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		rec, err := c.Get(t.Context(), ref)
		if err == nil && cond(rec) {
			return rec
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s never came: last seen %+v, %v", what, rec, err)
		}
	}
}

func TestRunServes(t *testing.T) {
	f := newFakes(t)
	rec, err := f.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	if rec.State != lifecycle.Running || !rec.Ready || rec.Health != lifecycle.Healthy || rec.Name != "web" || len(rec.ID) != 64 {
		t.Fatalf("%+v", rec)
	}
	fetch(t, rec.URL())
	if len(rec.Endpoints) != 1 || !rec.Endpoints[0].HTTP || rec.Endpoints[0].Host != "127.0.0.1" {
		t.Fatalf("endpoints %+v", rec.Endpoints)
	}
	for _, ref := range []string{"web", rec.ID, rec.ID[:10], strings.ToUpper(rec.ID[:10])} {
		if got, err := f.Get(t.Context(), ref); err != nil || got.ID != rec.ID {
			t.Errorf("Get(%q): %v, %v", ref, got.ID, err)
		}
	}
	if _, err := f.Get(t.Context(), "nosuch"); !errors.Is(err, budgie.ErrNotFound) {
		t.Errorf("Get of nothing: %v", err)
	}
	if _, err := f.Get(t.Context(), ""); !errors.Is(err, budgie.ErrNotFound) {
		t.Errorf("Get of the empty prefix: %v", err)
	}
}

func TestRunAnnouncesAndStopWithdraws(t *testing.T) {
	f := newFakes(t)
	other := f.network.Join()
	defer func() { _ = other.Close() }()
	events, err := other.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := f.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	ev := <-events
	if ev.Type != discovery.Added || ev.Service.ID != rec.ID || ev.Service.Name != "web" || ev.Service.Image != "example/web" {
		t.Fatalf("first event %+v", ev)
	}
	want := discovery.Port{ContainerPort: 80, HostPort: rec.Endpoints[0].Port, Protocol: bunfile.TCP, HTTP: true}
	if len(ev.Service.Ports) != 1 || ev.Service.Ports[0] != want {
		t.Fatalf("announced ports %+v, want %+v", ev.Service.Ports, want)
	}
	if err := f.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if ev := <-events; ev.Type != discovery.Removed || ev.Service.ID != rec.ID {
		t.Fatalf("after the stop: %+v", ev)
	}
	if _, err := net.Dial("tcp", rec.Endpoints[0].String()); err == nil {
		t.Error("the published port of a stopped container still accepts")
	}
}

// E3: Run returns when the port answers, also when many start at once.
func TestCaseE3ManyParallelRuns(t *testing.T) {
	const n = 500
	f := newFakes(t)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			spec := web(fmt.Sprintf("web-%d", i))
			rec, err := f.Run(t.Context(), spec)
			if err == nil && (!rec.Ready || rec.State != lifecycle.Running) {
				err = fmt.Errorf("returned %+v", rec)
			}
			if err == nil {
				var conn net.Conn
				if conn, err = net.Dial("tcp", rec.Endpoints[0].String()); err == nil {
					err = conn.Close()
				}
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	recs, err := f.List(t.Context())
	if err != nil || len(recs) != n {
		t.Fatalf("%d containers listed, %v", len(recs), err)
	}
}

// E4: the end of the context stops the container, during Run and after it.
func TestCaseE4ContextGoverns(t *testing.T) {
	t.Run("after Run", func(t *testing.T) {
		f := newFakes(t)
		ctx, cancel := context.WithCancel(t.Context())
		rec, err := f.Run(ctx, always(web("web")))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		got, err := f.Wait(t.Context(), rec.ID)
		if err != nil || got.State != lifecycle.Stopped || got.Desired != lifecycle.WantStopped {
			t.Fatalf("%+v, %v", got, err)
		}
		if !strings.Contains(got.Reason, "context") {
			t.Errorf("reason %q", got.Reason)
		}
	})
	t.Run("during Run", func(t *testing.T) {
		f := newFakes(t, runtimetest.WithHandler(status(http.StatusServiceUnavailable)))
		cause := errors.New("changed my mind")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			eventually(t, f.Client, "web", "a start", func(r lifecycle.Container) bool { return r.State == lifecycle.Running })
			cancel(cause)
		})
		_, err := f.Run(ctx, web("web"))
		wg.Wait()
		if !errors.Is(err, cause) {
			t.Fatalf("Run returned %v", err)
		}
		if rec, err := f.Get(t.Context(), "web"); err != nil || rec.State != lifecycle.Stopped {
			t.Fatalf("afterwards %+v, %v", rec, err)
		}
	})
}

func TestCloseStopsWhatItRuns(t *testing.T) {
	f := newFakes(t)
	second := f.client(t)
	rec, err := second.Run(t.Context(), always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if st, err := f.runtime.Status(t.Context(), rec.ID); err != nil || st.State != lifecycle.Stopped {
		t.Fatalf("after Close the runtime says %+v, %v", st, err)
	}
	if _, err := second.Run(t.Context(), web("other")); !errors.Is(err, budgie.ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
	if _, err := second.List(t.Context()); !errors.Is(err, budgie.ErrClosed) {
		t.Errorf("List after Close: %v", err)
	}
	if _, err := second.Discover(t.Context()); !errors.Is(err, budgie.ErrClosed) {
		t.Errorf("Discover after Close: %v", err)
	}
}

func TestRunFails(t *testing.T) {
	boom := errors.New("boom")
	for _, tc := range []struct {
		name   string
		opts   []runtimetest.FakeOption
		spec   func(bunfile.Spec) bunfile.Spec
		within time.Duration
		reason string
		is     error
	}{
		{name: "create", opts: fault("create", boom), reason: "boom", is: boom},
		{name: "start", opts: fault("start", boom), reason: "boom", is: boom},
		{name: "exits at once", spec: func(s bunfile.Spec) bunfile.Spec {
			s.Image = bunfile.Image{Command: runtimetest.FakeCommand("exit", "7")}
			return s
		}, reason: "it exited with status 7"},
		{
			name: "never serves", opts: []runtimetest.FakeOption{runtimetest.WithHandler(status(500))},
			within: 100 * time.Millisecond, reason: "did not serve within 100ms",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFakes(t, tc.opts...)
			spec := web("web")
			if tc.spec != nil {
				spec = tc.spec(spec)
			}
			var opts []budgie.RunOption
			if tc.within > 0 {
				opts = append(opts, budgie.ReadyWithin(tc.within))
			}
			_, err := f.Run(t.Context(), spec, opts...)
			notReady, ok := errors.AsType[*budgie.NotReadyError](err)
			if !ok || !errors.Is(err, budgie.ErrNotReady) || !strings.Contains(notReady.Reason, tc.reason) {
				t.Fatalf("got %v", err)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("the cause is lost from %v", err)
			}
			rec, err := f.Get(t.Context(), "web")
			if err != nil || !rec.Finished() {
				t.Fatalf("afterwards %+v, %v", rec, err)
			}
		})
	}
}

// fault makes one operation of the fake runtime fail.
func fault(failing string, err error) []runtimetest.FakeOption {
	return []runtimetest.FakeOption{runtimetest.WithFault(func(op, _ string) error {
		if op == failing {
			return err
		}
		return nil
	})}
}

func TestRunRefusesBadSpecs(t *testing.T) {
	f := newFakes(t)
	spec := web("Not A Name")
	if _, err := f.Run(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("bad name: %v", err)
	}
	if _, err := f.Run(t.Context(), web("web"), budgie.OnRuntime("nosuch")); !errors.Is(err, budgie.ErrNoRuntime) {
		t.Errorf("unknown runtime: %v", err)
	}
	if recs, err := f.List(t.Context()); err != nil || len(recs) != 0 {
		t.Errorf("%d records, %v", len(recs), err)
	}
}

func TestNames(t *testing.T) {
	f := newFakes(t)
	first, err := f.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Run(t.Context(), web("web")); !errors.Is(err, budgie.ErrExists) || !strings.Contains(err.Error(), first.ShortID()) {
		t.Fatalf("a taken name: %v", err)
	}
	if err := f.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	second, err := f.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), first.ID); !errors.Is(err, budgie.ErrNotFound) {
		t.Errorf("the replaced container is still listed: %v", err)
	}
	if _, err := f.runtime.Status(t.Context(), first.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("the runtime still has the replaced container: %v", err)
	}
	if err := f.Remove(t.Context(), second.ID); !errors.Is(err, budgie.ErrRunning) {
		t.Errorf("removing a running container: %v", err)
	}
	if err := f.Remove(t.Context(), second.ID, budgie.Force(), budgie.Grace(0)); err != nil {
		t.Errorf("removing it by force: %v", err)
	}
	if recs, err := f.List(t.Context()); err != nil || len(recs) != 0 {
		t.Errorf("%d records left, %v", len(recs), err)
	}
}

func TestPortTaken(t *testing.T) {
	f := newFakes(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	spec := web("web")
	spec.Ports[0].HostPort = ln.Addr().(*net.TCPAddr).Port
	_, err = f.Run(t.Context(), spec)
	if !errors.Is(err, budgie.ErrNotReady) || !strings.Contains(err.Error(), "is taken") {
		t.Fatalf("got %v", err)
	}
	if list, err := f.runtime.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the runtime has %v, %v", list, err)
	}
}

func TestRunAllInOrderAndUndone(t *testing.T) {
	f := newFakes(t)
	db, app := web("db"), web("app")
	app.DependsOn = []string{"db"}
	recs, err := f.RunAll(t.Context(), []bunfile.Spec{app, db})
	if err != nil {
		t.Fatal(err)
	}
	if recs[0].Name != "db" || recs[1].Name != "app" || recs[1].StartedAt.Before(recs[0].StartedAt) {
		t.Fatalf("started %s, then %s", recs[0].Name, recs[1].Name)
	}

	cache, broken := web("cache"), web("broken")
	broken.DependsOn = []string{"cache"}
	broken.Image = bunfile.Image{Command: runtimetest.FakeCommand("exit", "1")}
	if _, err := f.RunAll(t.Context(), []bunfile.Spec{cache, broken}); !errors.Is(err, budgie.ErrNotReady) {
		t.Fatalf("got %v", err)
	}
	if rec, err := f.Get(t.Context(), "cache"); err != nil || rec.State != lifecycle.Stopped {
		t.Errorf("what had started is %s, %v", rec.State, err)
	}
}

// A stop that fails once is no reason to kill a container whose time to end by itself is
// not over.
func TestFailedStopKeepsTheGrace(t *testing.T) {
	var stops atomic.Int32
	f := newFakes(t, runtimetest.WithFault(func(op, _ string) error {
		if op == "stop" && stops.Add(1) == 1 {
			return errors.New("busy")
		}
		return nil
	}))
	mustRun(t, f.Client, web("web"))
	if err := f.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	rec, err := f.Get(t.Context(), "web")
	if err != nil || rec.Exit == nil || rec.Exit.Code != 143 || stops.Load() < 2 {
		t.Errorf("after %d stops it ended with %+v, %v", stops.Load(), rec.Exit, err)
	}
}
