package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

func running(r lifecycle.Container) bool { return r.State == lifecycle.Running && r.Ready }

func TestACrashedContainerRestarts(t *testing.T) {
	f := newFakes(t)
	rec, err := f.Run(t.Context(), always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		if err := f.runtime.Crash(rec.ID, n); err != nil {
			t.Fatal(err)
		}
		got := eventually(t, f.Client, "web", "the next run", func(r lifecycle.Container) bool { return r.Restarts == n && r.Ready })
		if got.URL() != rec.URL() {
			t.Errorf("the published port moved from %s to %s", rec.URL(), got.URL())
		}
		fetch(t, got.URL())
	}
}

func TestACrashWithoutPolicyEnds(t *testing.T) {
	f := newFakes(t)
	rec, err := f.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.runtime.Crash(rec.ID, 3); err != nil {
		t.Fatal(err)
	}
	got, err := f.Wait(t.Context(), "web")
	if err != nil || got.State != lifecycle.Stopped || got.Exit == nil || got.Exit.Code != 3 || got.EndReason() != "it exited with status 3" {
		t.Fatalf("%+v, %v", got, err)
	}
}

// R3: a container that crashes again and again is stopped by a person while
// it waits for its next start, and stays stopped.
func TestCaseR3StopBetweenRestarts(t *testing.T) {
	f := newFakes(t)
	rec, err := f.Run(t.Context(), always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if f.runtime.Crash(rec.ID, 1) == nil {
			eventually(t, f.Client, "web", "an end", func(r lifecycle.Container) bool { return r.State == lifecycle.Stopped || running(r) })
		}
	}
	if err := f.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	got, err := f.Get(t.Context(), "web")
	if err != nil || !got.Finished() || got.Desired != lifecycle.WantStopped {
		t.Fatalf("%+v, %v", got, err)
	}
}

// R6: an unhealthy container is taken off the network and restarted.
func TestCaseR6UnhealthyIsRestarted(t *testing.T) {
	var sick atomic.Bool
	f := newFakes(t, runtimetest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})))
	spec := always(web("web"))
	spec.Healthcheck.Retries = 2
	if _, err := f.Run(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	sick.Store(true)
	eventually(t, f.Client, "web", "a restart", func(r lifecycle.Container) bool { return r.Restarts >= 1 })
	sick.Store(false)
	eventually(t, f.Client, "web", "health", func(r lifecycle.Container) bool { return running(r) && r.Health == lifecycle.Healthy })
}

// Without a restart policy an unhealthy container is left alone, but shown and
// withdrawn from the network.
func TestUnhealthyWithoutPolicy(t *testing.T) {
	var sick atomic.Bool
	f := newFakes(t, runtimetest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})))
	other := f.network.Join()
	defer func() { _ = other.Close() }()
	events, err := other.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	said := make(saying, 16)
	f.Client = f.client(t, budgie.WithLogger(slog.New(slog.NewTextHandler(said, nil))))
	if _, err := f.Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	<-events
	sick.Store(true)
	eventually(t, f.Client, "web", "sickness", func(r lifecycle.Container) bool { return r.Health == lifecycle.Unhealthy })
	if ev := <-events; ev.Type.String() != "removed" {
		t.Errorf("event %+v", ev)
	}
	sick.Store(false)
	got := eventually(t, f.Client, "web", "health", func(r lifecycle.Container) bool { return r.Health == lifecycle.Healthy })
	if got.Restarts != 0 {
		t.Errorf("%d restarts", got.Restarts)
	}
	if ev := <-events; ev.Type.String() != "added" {
		t.Errorf("event %+v", ev)
	}
	for i, want := range []string{"the container is unhealthy", "healthy again"} {
		if line := <-said; !strings.Contains(line, want) || i == 0 && !strings.Contains(line, "500") {
			t.Errorf("it says %s", line)
		}
	}
}

// Another client, as of another program, stops and removes what this one runs.
func TestStopFromAnotherClient(t *testing.T) {
	f := newFakes(t)
	other := f.client(t)
	if _, err := f.Run(t.Context(), always(web("web"))); err != nil {
		t.Fatal(err)
	}
	if err := other.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if rec, err := f.Get(t.Context(), "web"); err != nil || !rec.Finished() {
		t.Fatalf("%+v, %v", rec, err)
	}
	if err := other.Remove(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(t.Context(), "web"); !errors.Is(err, budgie.ErrNotFound) {
		t.Errorf("waiting for a removed container: %v", err)
	}
}

// supervise starts a supervisor and returns a function that ends it and
// returns Supervise's error.
func supervise(t *testing.T, c *budgie.Client) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Supervise(ctx, budgie.Resident()) }()
	var once sync.Once
	var err error
	end = func() error {
		once.Do(func() {
			cancel()
			err = <-done
		})
		return err
	}
	t.Cleanup(func() { _ = end() })
	return end
}

func TestSupervisorsTakeTurns(t *testing.T) {
	f := newFakes(t)
	first, second := f.client(t), f.client(t)
	end := supervise(t, first)
	rec, err := runDetached(t, f.Client, always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Supervise(t.Context()); !errors.Is(err, budgie.ErrSupervised) {
		t.Fatalf("a second supervisor: %v", err)
	}
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Fatalf("the first supervisor ended with %v", err)
	}
	// Nobody supervises: the container runs on, unpublished, and is shown so.
	got, err := f.Get(t.Context(), "web")
	if err != nil || !got.Unsupervised || got.State != lifecycle.Running {
		t.Fatalf("%+v, %v", got, err)
	}
	if st, err := f.runtime.Status(t.Context(), rec.ID); err != nil || st.State != lifecycle.Running || st.PID != rec.PID {
		t.Fatalf("%+v, %v", st, err)
	}
	supervise(t, second)
	got = eventually(t, f.Client, "web", "the adoption", func(r lifecycle.Container) bool { return !r.Unsupervised })
	if got.Restarts != 0 || got.URL() != rec.URL() {
		t.Errorf("adopted as %+v", got)
	}
	awaitAnswer(t, rec.URL())
	if err := f.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
}

// runDetached runs a detached container for which a supervisor is about to be
// there.
func runDetached(t *testing.T, c *budgie.Client, spec bunfile.Spec) (lifecycle.Container, error) {
	t.Helper()
	for {
		rec, err := c.Run(t.Context(), spec, budgie.Detached())
		if !errors.Is(err, budgie.ErrNoSupervisor) {
			return rec, err
		}
	}
}

// awaitAnswer waits until a URL answers with status 200.
func awaitAnswer(t *testing.T, url string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		res, err := client.Get(url)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
	}
	t.Fatalf("%s never answered", url)
}

func TestSuperviseEndsAfterTheLastContainer(t *testing.T) {
	f := newFakes(t)
	if err := f.client(t).Supervise(t.Context()); err != nil {
		t.Fatalf("with nothing to do: %v", err)
	}
	end := supervise(t, f.client(t))
	for _, name := range []string{"a", "b"} {
		if _, err := runDetached(t, f.Client, always(web(name))); err != nil {
			t.Fatal(err)
		}
	}
	_ = end()
	done := make(chan error, 1)
	last := f.client(t)
	go func() { done <- last.Supervise(t.Context()) }()
	eventually(t, f.Client, "b", "the adoption", func(r lifecycle.Container) bool { return !r.Unsupervised })
	if err := f.Stop(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("ended before the last container: %v", err)
	default:
	}
	if err := f.Stop(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// What a supervisor finds after its predecessor died depends on what the
// runtime still has.
func TestAdoption(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy bunfile.RestartPolicyName
		// meanwhile happens while nobody supervises.
		meanwhile func(t *testing.T, f *fakes, rec lifecycle.Container)
		want      func(lifecycle.Container) bool
	}{
		{"still runs", bunfile.RestartAlways, func(*testing.T, *fakes, lifecycle.Container) {}, func(r lifecycle.Container) bool {
			return running(r) && r.Restarts == 0
		}},
		{"crashed, always", bunfile.RestartAlways, crash, func(r lifecycle.Container) bool { return running(r) && r.Restarts == 1 }},
		{"crashed, no policy", bunfile.RestartNo, crash, func(r lifecycle.Container) bool {
			return r.Finished() && r.Exit != nil && r.Exit.Code == 9
		}},
		// R1: as after a reboot, the runtime has lost everything.
		{"lost, always", bunfile.RestartAlways, lose, func(r lifecycle.Container) bool { return running(r) && r.Restarts == 1 }},
		{"lost, unless-stopped", bunfile.RestartUnlessStopped, lose, func(r lifecycle.Container) bool { return running(r) && r.Restarts == 1 }},
		{"lost, no policy", bunfile.RestartNo, lose, func(r lifecycle.Container) bool {
			return r.Finished() && r.Exit != nil && r.Exit.Code == lifecycle.UnknownExitCode
		}},
		{"stopped by a person", bunfile.RestartAlways, func(t *testing.T, f *fakes, rec lifecycle.Container) {
			if err := f.Stop(t.Context(), rec.ID); err != nil {
				t.Error(err)
			}
		}, func(r lifecycle.Container) bool { return r.Finished() && r.Desired == lifecycle.WantStopped }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFakes(t)
			first, second := f.client(t), f.client(t)
			end := supervise(t, first)
			spec := web("web")
			spec.RestartPolicy.Name = tc.policy
			rec, err := runDetached(t, f.Client, spec)
			if err != nil {
				t.Fatal(err)
			}
			_ = end()
			tc.meanwhile(t, f, rec)
			supervise(t, second)
			eventually(t, f.Client, "web", tc.name, func(r lifecycle.Container) bool { return !r.Unsupervised && tc.want(r) })
		})
	}
}

func crash(t *testing.T, f *fakes, rec lifecycle.Container) {
	if err := f.runtime.Crash(rec.ID, 9); err != nil {
		t.Error(err)
	}
}

func lose(t *testing.T, f *fakes, rec lifecycle.Container) {
	if err := errors.Join(f.runtime.Crash(rec.ID, 9), f.runtime.Remove(t.Context(), rec.ID)); err != nil {
		t.Error(err)
	}
}

func TestLogsGoOnOverRestarts(t *testing.T) {
	f := newFakes(t)
	rec, err := f.Run(t.Context(), always(web("web")))
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for e, err := range f.Logs(t.Context(), "web", runtime.LogOptions{Follow: true}) {
			if err != nil {
				t.Error(err)
				return
			}
			lines <- e.Line
		}
	}()
	var got []string
	for n := range 3 {
		line := fmt.Sprintf("line of run %d", n+1)
		if err := f.runtime.Log(rec.ID, line); err != nil {
			t.Fatal(err)
		}
		for l := range lines {
			if got = append(got, l); l == line {
				break
			}
		}
		if err := f.runtime.Crash(rec.ID, 1); err != nil {
			t.Fatal(err)
		}
		eventually(t, f.Client, "web", "a restart", func(r lifecycle.Container) bool { return r.Restarts == n+1 && r.Ready })
	}
	if err := f.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	for l := range lines {
		got = append(got, l)
	}
	for n := range 3 {
		line := fmt.Sprintf("line of run %d", n+1)
		count := 0
		for _, l := range got {
			if l == line {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%q came %d times in %q", line, count, got)
		}
	}
}

func TestAutoRemove(t *testing.T) {
	f := newFakes(t)
	rec, err := f.Run(t.Context(), web("web"), budgie.AutoRemove())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context(), "web"); err != nil && !errors.Is(err, budgie.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := f.Wait(t.Context(), rec.ID); err != nil && !errors.Is(err, budgie.ErrNotFound) {
		t.Fatal(err)
	}
	if recs, err := f.List(t.Context()); err != nil || len(recs) != 0 {
		t.Errorf("left: %+v, %v", recs, err)
	}
}

// saying passes on what is logged.
type saying chan string

func (s saying) Write(p []byte) (int, error) {
	s <- string(p)
	return len(p), nil
}

// A supervisor that stays waits for the one there is, and says so.
func TestResidentSupervisorSaysThatItWaits(t *testing.T) {
	f := newFakes(t)
	supervise(t, f.Client)
	if _, err := runDetached(t, f.Client, always(web("web"))); err != nil {
		t.Fatal(err)
	}
	said := make(saying, 16)
	supervise(t, f.client(t, budgie.WithLogger(slog.New(slog.NewTextHandler(said, nil)))))
	for line := range said {
		if strings.Contains(line, "another process supervises") {
			return
		}
	}
}
