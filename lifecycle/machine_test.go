package lifecycle_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// moves are all ways of changing a container's state.
var moves = map[string]func(*lifecycle.Container, time.Time) error{
	"creating": func(c *lifecycle.Container, now time.Time) error { return c.MarkCreating(now) },
	"created":  func(c *lifecycle.Container, _ time.Time) error { return c.MarkCreated() },
	"running":  func(c *lifecycle.Container, now time.Time) error { return c.MarkRunning(42, now) },
	"stopped": func(c *lifecycle.Container, now time.Time) error {
		return c.MarkStopped(lifecycle.Exit{Code: 1, At: now}, 0.5)
	},
	"failed": func(c *lifecycle.Container, now time.Time) error { return c.MarkFailed(now, "no reason", 0.5) },
}

func TestTransitions(t *testing.T) {
	allowed := map[lifecycle.State][]string{
		"":                 {"creating"},
		lifecycle.Creating: {"created", "failed"},
		lifecycle.Created:  {"running", "failed"},
		lifecycle.Running:  {"stopped"},
		lifecycle.Stopped:  {"created"},
	}
	for from, names := range allowed {
		for name, move := range moves {
			c := lifecycle.Container{ID: "abc", State: from}
			err := move(&c, epoch)
			if slices.Contains(names, name) {
				if err != nil {
					t.Errorf("%s from %q: %v", name, from, err)
				}
				continue
			}
			if !errors.Is(err, lifecycle.ErrTransition) {
				t.Errorf("%s from %q: got %v, want ErrTransition", name, from, err)
			}
			if te, ok := errors.AsType[*lifecycle.TransitionError](err); !ok || te.From != from || te.ID != "abc" || te.Error() == "" {
				t.Errorf("%s from %q: error %#v does not say what was refused", name, from, err)
			}
			if c.State != from {
				t.Errorf("a refused %s moved the container from %q to %q", name, from, c.State)
			}
		}
	}
}

// However the moves come, the state only follows the arrows, a refused move
// changes nothing, and what a state implies holds in it.
func TestMachineProperty(t *testing.T) {
	names := []string{"creating", "created", "running", "stopped", "failed"}
	next := map[lifecycle.State][]lifecycle.State{
		"":                 {lifecycle.Creating},
		lifecycle.Creating: {lifecycle.Created, lifecycle.Stopped},
		lifecycle.Created:  {lifecycle.Running, lifecycle.Stopped},
		lifecycle.Running:  {lifecycle.Stopped},
		lifecycle.Stopped:  {lifecycle.Created},
	}
	rapid.Check(t, func(t *rapid.T) {
		c := lifecycle.Container{ID: "abc", Desired: lifecycle.WantRunning}
		c.Spec.RestartPolicy.Name = rapid.SampledFrom(policies).Draw(t, "policy")
		now := epoch
		for range rapid.IntRange(1, 40).Draw(t, "moves") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "seconds")) * time.Second)
			before := c.Clone()
			err := moves[rapid.SampledFrom(names).Draw(t, "move")](&c, now)
			if err != nil {
				if c.State != before.State || c.Restarts != before.Restarts || c.Failures != before.Failures {
					t.Fatalf("a refused move changed %+v to %+v", before, c)
				}
				continue
			}
			if !slices.Contains(next[before.State], c.State) {
				t.Fatalf("went from %q to %q", before.State, c.State)
			}
			if (c.PID != 0) != (c.State == lifecycle.Running) {
				t.Fatalf("%s with pid %d", c.State, c.PID)
			}
			if c.Ready && c.State != lifecycle.Running {
				t.Fatalf("%s and ready", c.State)
			}
			if !c.RestartAt.IsZero() && (c.State != lifecycle.Stopped || c.RestartAt.Before(now)) {
				t.Fatalf("%s at %v and due to restart at %v", c.State, now, c.RestartAt)
			}
		}
	})
}

var policies = []bunfile.RestartPolicyName{
	"", bunfile.RestartNo, bunfile.RestartAlways, bunfile.RestartOnFailure, bunfile.RestartUnlessStopped,
}

// running returns a container in its first run.
func running(policy bunfile.RestartPolicy, desired lifecycle.Desired) lifecycle.Container {
	c := lifecycle.Container{ID: "abc", Desired: desired}
	c.Spec.RestartPolicy = policy
	must(c.MarkCreating(epoch), c.MarkCreated(), c.MarkRunning(42, epoch))
	return c
}

func must(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		panic(err)
	}
}

func TestRunningForgetsTheRunBefore(t *testing.T) {
	c := running(bunfile.RestartPolicy{Name: bunfile.RestartAlways}, lifecycle.WantRunning)
	c.Spec.Healthcheck = &bunfile.Healthcheck{Path: "/"}
	c.Ready, c.Health = true, lifecycle.Healthy
	must(c.MarkStopped(lifecycle.Exit{Code: 3, At: epoch.Add(time.Second)}, 0))
	c.Reason = "was unhealthy"
	if c.Exit == nil || c.Exit.Code != 3 || c.Ready || c.Health != lifecycle.HealthNone {
		t.Fatalf("after the end: %+v", c)
	}
	must(c.MarkCreated(), c.MarkRunning(43, epoch.Add(2*time.Second)))
	if c.Exit != nil || c.Reason != "" || c.Restarts != 1 || c.Health != lifecycle.HealthStarting || c.PID != 43 {
		t.Fatalf("in the second run: %+v", c)
	}
}

func TestRunningKeepsTheReasonOfAWantedStop(t *testing.T) {
	c := running(bunfile.RestartPolicy{}, lifecycle.WantStopped)
	must(c.MarkStopped(lifecycle.Exit{At: epoch}, 0), c.MarkCreated())
	c.Reason = "its program died"
	must(c.MarkRunning(1, epoch))
	if c.EndReason() != "its program died" {
		t.Fatalf("reason is %q", c.EndReason())
	}
}

func TestEndReason(t *testing.T) {
	exit := func(code int, oom bool) lifecycle.Container {
		return lifecycle.Container{Exit: &lifecycle.Exit{Code: code, OOMKilled: oom}}
	}
	for _, tc := range []struct {
		c    lifecycle.Container
		want string
	}{
		{lifecycle.Container{Reason: "port taken"}, "port taken"},
		{lifecycle.Container{}, "it was stopped"},
		{exit(0, false), "it exited with status 0"},
		{exit(3, false), "it exited with status 3"},
		{exit(137, false), "it was ended by signal 9 (exit status 137)"},
		{exit(137, true), "it ran out of memory and was killed"},
		{exit(lifecycle.UnknownExitCode, false), "it ended while nobody watched, with an unknown exit status"},
	} {
		if got := tc.c.EndReason(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	grace := bunfile.Duration(time.Second)
	a := lifecycle.Container{
		Endpoints: []lifecycle.Endpoint{{Port: 1}}, Exit: &lifecycle.Exit{Code: 1}, StopGrace: &grace,
		Spec: bunfile.Spec{Environment: []string{"A=1"}},
	}
	b := a.Clone()
	b.Endpoints[0].Port, b.Exit.Code, *b.StopGrace, b.Spec.Environment[0] = 2, 2, 2, "B=2"
	if a.Endpoints[0].Port != 1 || a.Exit.Code != 1 || *a.StopGrace != grace || a.Spec.Environment[0] != "A=1" {
		t.Fatalf("a change of the clone changed the original: %+v", a)
	}
}

func TestGrace(t *testing.T) {
	d := func(v time.Duration) *bunfile.Duration { b := bunfile.Duration(v); return &b }
	var c lifecycle.Container
	if c.Grace() != bunfile.DefaultStopTimeout {
		t.Errorf("default is %s", c.Grace())
	}
	c.Spec.StopTimeout = d(3 * time.Second)
	if c.Grace() != 3*time.Second {
		t.Errorf("with stop_timeout it is %s", c.Grace())
	}
	c.StopGrace = d(0)
	if c.Grace() != 0 {
		t.Errorf("overridden it is %s", c.Grace())
	}
}

func TestEndpointText(t *testing.T) {
	for host, want := range map[string]string{
		"": "127.0.0.1:80", "0.0.0.0": "127.0.0.1:80", "::": "127.0.0.1:80", "10.0.0.1": "10.0.0.1:80", "::1": "[::1]:80",
	} {
		if got := (lifecycle.Endpoint{Host: host, Port: 80}).String(); got != want {
			t.Errorf("host %q: got %q, want %q", host, got, want)
		}
	}
	c := lifecycle.Container{ID: "0123456789abcdef", Endpoints: []lifecycle.Endpoint{
		{Protocol: bunfile.UDP, Port: 53}, {Protocol: bunfile.TCP, Port: 80},
	}}
	if got := c.URL(); got != "http://127.0.0.1:80" {
		t.Errorf("URL is %q", got)
	}
	c.Endpoints = c.Endpoints[:1]
	if got := c.URL(); got != "" {
		t.Errorf("URL without a TCP port is %q", got)
	}
	if got := c.ShortID(); got != "0123456789ab" {
		t.Errorf("short id is %q", got)
	}
	if got := (lifecycle.Container{ID: "abc"}).ShortID(); got != "abc" {
		t.Errorf("short id of a short one is %q", got)
	}
}
