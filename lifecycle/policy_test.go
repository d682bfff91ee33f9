package lifecycle_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
)

func TestRestartPolicy(t *testing.T) {
	const on, off = true, false
	for _, tc := range []struct {
		name     string
		policy   bunfile.RestartPolicy
		code     int
		failures int // before this end
		want     bool
	}{
		{"no policy", bunfile.RestartPolicy{}, 1, 0, off},
		{"no", bunfile.RestartPolicy{Name: bunfile.RestartNo}, 1, 0, off},
		{"always after success", bunfile.RestartPolicy{Name: bunfile.RestartAlways}, 0, 0, on},
		{"always after failure", bunfile.RestartPolicy{Name: bunfile.RestartAlways}, 1, 99, on},
		{"unless-stopped", bunfile.RestartPolicy{Name: bunfile.RestartUnlessStopped}, 0, 0, on},
		{"on-failure after success", bunfile.RestartPolicy{Name: bunfile.RestartOnFailure}, 0, 0, off},
		{"on-failure after failure", bunfile.RestartPolicy{Name: bunfile.RestartOnFailure}, 1, 99, on},
		{"on-failure after an unseen end", bunfile.RestartPolicy{Name: bunfile.RestartOnFailure}, lifecycle.UnknownExitCode, 0, on},
		{"on-failure within its count", bunfile.RestartPolicy{Name: bunfile.RestartOnFailure, MaximumRetryCount: 3}, 1, 2, on},
		{"on-failure beyond its count", bunfile.RestartPolicy{Name: bunfile.RestartOnFailure, MaximumRetryCount: 3}, 1, 3, off},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := running(tc.policy, lifecycle.WantRunning)
			c.Failures = tc.failures
			end := epoch.Add(time.Second)
			must(c.MarkStopped(lifecycle.Exit{Code: tc.code, At: end}, 0.5))
			if got := !c.RestartAt.IsZero(); got != tc.want {
				t.Fatalf("restarts: %v, want %v", got, tc.want)
			}
			if c.Finished() == tc.want {
				t.Fatalf("finished: %v", c.Finished())
			}
		})
	}
}

// R3: whatever the policy, and however it ends, what a person stopped stays
// stopped.
func TestCaseR3StoppedStaysStopped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := bunfile.RestartPolicy{Name: rapid.SampledFrom(policies).Draw(t, "policy")}
		c := running(policy, lifecycle.WantRunning)
		if rapid.Bool().Draw(t, "crashed before") {
			must(c.MarkStopped(lifecycle.Exit{Code: 1, At: epoch}, 0))
		}
		c.Desired = lifecycle.WantStopped
		if c.State == lifecycle.Running {
			if got := lifecycle.Next(c, epoch).Do; got != lifecycle.Stop {
				t.Fatalf("next is %s", got)
			}
			must(c.MarkStopped(lifecycle.Exit{Code: rapid.IntRange(-1, 255).Draw(t, "code"), At: epoch}, 0))
		}
		later := epoch.Add(time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "later")))
		if got := lifecycle.Next(c, later).Do; got != lifecycle.Done {
			t.Fatalf("next is %s", got)
		}
	})
}

func TestNext(t *testing.T) {
	always := bunfile.RestartPolicy{Name: bunfile.RestartAlways}
	at := func(s lifecycle.State, d lifecycle.Desired, edit func(*lifecycle.Container)) lifecycle.Container {
		c := lifecycle.Container{State: s, Desired: d}
		if edit != nil {
			edit(&c)
		}
		return c
	}
	due := func(c *lifecycle.Container) { c.RestartAt = epoch }
	later := func(c *lifecycle.Container) { c.RestartAt = epoch.Add(time.Second) }
	unhealthy := func(c *lifecycle.Container) { c.Health = lifecycle.Unhealthy }
	unhealthyAlways := func(c *lifecycle.Container) { c.Health, c.Spec.RestartPolicy = lifecycle.Unhealthy, always }
	for _, tc := range []struct {
		name string
		c    lifecycle.Container
		want lifecycle.Action
	}{
		{"new", at(lifecycle.Creating, lifecycle.WantRunning, nil), lifecycle.Create},
		{"created", at(lifecycle.Created, lifecycle.WantRunning, nil), lifecycle.Start},
		{"running", at(lifecycle.Running, lifecycle.WantRunning, nil), lifecycle.Nothing},
		{"unhealthy without a policy", at(lifecycle.Running, lifecycle.WantRunning, unhealthy), lifecycle.Nothing},
		{"unhealthy with a policy", at(lifecycle.Running, lifecycle.WantRunning, unhealthyAlways), lifecycle.Replace},
		{"ended", at(lifecycle.Stopped, lifecycle.WantRunning, nil), lifecycle.Done},
		{"restart due", at(lifecycle.Stopped, lifecycle.WantRunning, due), lifecycle.Restart},
		{"restart later", at(lifecycle.Stopped, lifecycle.WantRunning, later), lifecycle.Wait},
		{"unwanted new", at(lifecycle.Creating, lifecycle.WantStopped, nil), lifecycle.Settle},
		{"unwanted created", at(lifecycle.Created, lifecycle.WantStopped, nil), lifecycle.Settle},
		{"unwanted running", at(lifecycle.Running, lifecycle.WantStopped, nil), lifecycle.Stop},
		{"unwanted stopped", at(lifecycle.Stopped, lifecycle.WantStopped, due), lifecycle.Done},
		{"nothing at all", lifecycle.Container{}, lifecycle.Nothing},
	} {
		if got := lifecycle.Next(tc.c, epoch); got.Do != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got.Do, tc.want)
		} else if got.Do == lifecycle.Wait && !got.Until.Equal(tc.c.RestartAt) {
			t.Errorf("%s: until %v, want %v", tc.name, got.Until, tc.c.RestartAt)
		}
	}
	if lifecycle.Action(99).String() != "unknown" || lifecycle.Replace.String() != "replace" {
		t.Error("actions do not name themselves")
	}
}

func TestBackoffProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-1, 100_000).Draw(t, "failures")
		low, mid, high := lifecycle.Backoff(n, 0), lifecycle.Backoff(n, 0.5), lifecycle.Backoff(n, 0.999)
		if low <= 0 || low > mid || mid > high || high > lifecycle.BackoffMax {
			t.Fatalf("after %d failures: %s, %s, %s", n, low, mid, high)
		}
		if lifecycle.Backoff(n+1, 0.5) < mid {
			t.Fatalf("the delay shrinks after %d failures", n)
		}
	})
	if got := lifecycle.Backoff(1, 0.5); got != lifecycle.BackoffBase {
		t.Errorf("the first delay is %s", got)
	}
}

func TestAStableRunForgivesFailures(t *testing.T) {
	c := running(bunfile.RestartPolicy{Name: bunfile.RestartAlways}, lifecycle.WantRunning)
	c.Failures = 7
	must(c.MarkStopped(lifecycle.Exit{Code: 1, At: epoch.Add(lifecycle.StableAfter)}, 0))
	if c.Failures != 1 {
		t.Errorf("after a long run it counts %d failures, want 1", c.Failures)
	}
}

func TestWhatCannotBeCreatedDoesNotRestart(t *testing.T) {
	for _, created := range []bool{false, true} {
		c := lifecycle.Container{Desired: lifecycle.WantRunning}
		c.Spec.RestartPolicy.Name = bunfile.RestartAlways
		must(c.MarkCreating(epoch))
		if created {
			must(c.MarkCreated())
		}
		must(c.MarkFailed(epoch, "no such command", 0))
		if c.Finished() == created || c.Reason != "no such command" {
			t.Errorf("created %v: %+v", created, c)
		}
	}
}
