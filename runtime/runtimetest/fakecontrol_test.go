package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

func newTestFake(t *testing.T, opts ...FakeOption) *Fake {
	f := NewFake(opts...)
	t.Cleanup(f.Shutdown)
	return f
}

// up creates and starts a container with a port.
func up(t *testing.T, f *Fake) (string, runtime.Status) {
	t.Helper()
	id := NewID()
	spec := WithPort(bunfile.Spec{Version: bunfile.Version, Name: "web", Image: bunfile.Image{DockerImage: "nginx"}}, 80)
	if err := f.Create(t.Context(), runtime.Config{ID: id, Spec: spec}); err != nil {
		t.Fatal(err)
	}
	st, err := f.Start(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return id, st
}

func fetch(t *testing.T, addr string) (string, http.Header) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	return string(body), resp.Header
}

func TestFakeHandler(t *testing.T) {
	id, st := up(t, newTestFake(t))
	body, header := fetch(t, st.Addresses[0].HostPort)
	if body != "web" || header.Get(HeaderContainer) != id {
		t.Errorf("the default handler answers %q with %v", body, header)
	}
	f := newTestFake(t, WithName("other"), WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "own ", r.Header.Get(HeaderContainer))
	})))
	id, st = up(t, f)
	if body, _ := fetch(t, st.Addresses[0].HostPort); body != "own "+id {
		t.Errorf("an own handler answers %q", body)
	}
	if f.Name() != "other" {
		t.Errorf("the name is %q", f.Name())
	}
}

func TestFakeCrash(t *testing.T) {
	f := newTestFake(t)
	id, st := up(t, f)
	if err := f.Crash(id, 42); err != nil {
		t.Fatal(err)
	}
	if st, err := f.Status(t.Context(), id); err != nil || st.State != lifecycle.Stopped || st.Exit.Code != 42 {
		t.Errorf("after the crash the status is %+v, %v", st, err)
	}
	if _, err := http.Get("http://" + st.Addresses[0].HostPort); err == nil {
		t.Error("a crashed container answers")
	}
	if err := f.Crash(id, 1); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("a second crash gives %v", err)
	}
	if err := f.Crash(NewID(), 1); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("the crash of an unknown container gives %v", err)
	}
}

func TestFakeLog(t *testing.T) {
	f := newTestFake(t)
	id, _ := up(t, f)
	if err := f.Log(id, "one"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range f.Logs(t.Context(), id, runtime.LogOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Line)
		switch e.Line {
		case "one":
			err = f.Log(id, "two")
		case "two":
			err = f.Stop(t.Context(), id, time.Minute)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("the log is %q", got)
	}
	if err := f.Log(NewID(), "line"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("a line for an unknown container gives %v", err)
	}
}

func TestFakeFaults(t *testing.T) {
	broken := errors.New("broken")
	var mu sync.Mutex
	var fail string
	var seen []string
	f := newTestFake(t, WithFault(func(op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, op)
		if op == fail {
			return broken
		}
		return nil
	}))
	id, _ := up(t, f)
	calls := map[string]func(ctx context.Context) error{
		"supports": func(ctx context.Context) error { return f.Supports(ctx, bunfile.Spec{}) },
		"create":   func(ctx context.Context) error { return f.Create(ctx, runtime.Config{ID: NewID()}) },
		"start":    func(ctx context.Context) error { _, err := f.Start(ctx, id); return err },
		"adopt":    func(ctx context.Context) error { _, err := f.Adopt(ctx, id); return err },
		"stop":     func(ctx context.Context) error { return f.Stop(ctx, id, 0) },
		"remove":   func(ctx context.Context) error { return f.Remove(ctx, id) },
		"status":   func(ctx context.Context) error { _, err := f.Status(ctx, id); return err },
		"list":     func(ctx context.Context) error { _, err := f.List(ctx); return err },
		"wait":     func(ctx context.Context) error { _, err := f.Wait(ctx, id); return err },
		"exec":     func(ctx context.Context) error { _, err := f.Exec(ctx, id, runtime.ExecConfig{}); return err },
		"logs": func(ctx context.Context) (err error) {
			for _, err = range f.Logs(ctx, id, runtime.LogOptions{}) {
			}
			return err
		},
	}
	for op, call := range calls {
		mu.Lock()
		fail = op
		mu.Unlock()
		if err := call(t.Context()); !errors.Is(err, broken) {
			t.Errorf("%s gives %v", op, err)
		}
		if !slices.Contains(seen, op) {
			t.Errorf("the fault was not asked about %s", op)
		}
	}
	mu.Lock()
	fail = ""
	mu.Unlock()
	if st, err := f.Status(t.Context(), id); err != nil || st.State != lifecycle.Running {
		t.Errorf("calls that failed changed the container: %+v, %v", st, err)
	}
}

func TestFakeStartDelay(t *testing.T) {
	f := newTestFake(t, WithStartDelay(time.Hour))
	id := NewID()
	if err := f.Create(t.Context(), runtime.Config{ID: id}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := f.Start(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a start that takes long gives %v", err)
	}
	if st, err := f.Status(t.Context(), id); err != nil || st.State != lifecycle.Created {
		t.Fatalf("status is %+v, %v", st, err)
	}
}

func TestFakeExec(t *testing.T) {
	f := newTestFake(t, WithExec(func(_ context.Context, id string, cfg runtime.ExecConfig) (int, error) {
		return len(cfg.Command) + len(id), nil
	}))
	id, _ := up(t, f)
	if code, err := f.Exec(t.Context(), id, runtime.ExecConfig{Command: []string{"a", "b"}}); err != nil || code != 66 {
		t.Fatalf("Exec gives %d, %v", code, err)
	}
}

// TestFakeMany has 500 containers at once.
func TestFakeMany(t *testing.T) {
	f := newTestFake(t)
	var wg sync.WaitGroup
	addrs := make([]string, 500)
	for i := range addrs {
		wg.Go(func() {
			id := NewID()
			spec := WithPort(Spec("many"), 80)
			if err := f.Create(t.Context(), runtime.Config{ID: id, Spec: spec}); err != nil {
				t.Error(err)
				return
			}
			st, err := f.Start(t.Context(), id)
			if err != nil {
				t.Error(err)
				return
			}
			addrs[i] = st.Addresses[0].HostPort
		})
	}
	wg.Wait()
	if all, err := f.List(t.Context()); err != nil || len(all) != len(addrs) {
		t.Fatalf("List has %d containers, %v", len(all), err)
	}
	for _, addr := range addrs {
		if body, _ := fetch(t, addr); body != "many" {
			t.Fatalf("%s answers %q", addr, body)
		}
	}
}
