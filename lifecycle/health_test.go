package lifecycle_test

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
)

func seconds(n int) bunfile.Duration { return bunfile.Duration(time.Duration(n) * time.Second) }

// B4: a healthy container becomes unhealthy at exactly as many failures in a
// row as its check allows, and not before; one success brings it back.
func TestCaseB4HysteresisProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		retries := rapid.IntRange(1, 6).Draw(t, "retries")
		tr := lifecycle.NewTracker(bunfile.Healthcheck{Retries: retries, Interval: seconds(1)}, epoch)
		now := epoch
		tr.Observe(true, now)
		inARow := 0
		for range rapid.IntRange(1, 50).Draw(t, "probes") {
			now = now.Add(time.Second)
			ok := rapid.Bool().Draw(t, "ok")
			if inARow++; ok {
				inARow = 0
			}
			want := lifecycle.Healthy
			if inARow >= retries || tr.Health() == lifecycle.Unhealthy && !ok {
				want = lifecycle.Unhealthy
			}
			if got := tr.Observe(ok, now); got != want {
				t.Fatalf("after %d failures in a row of %d allowed: %s", inARow, retries, got)
			}
		}
	})
}

// start plays a container whose probes fail, on a clock of its own, and returns
// when it became unhealthy.
func start(t *testing.T, check bunfile.Healthcheck) (after time.Duration) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		began := time.Now()
		tr := lifecycle.NewTracker(check, began)
		for tr.Observe(false, time.Now()) != lifecycle.Unhealthy {
			time.Sleep(tr.Delay()) // the bubble's clock, which needs no time
		}
		after = time.Since(began)
	})
	return after
}

func TestAStartHasItsTime(t *testing.T) {
	for _, tc := range []struct {
		name  string
		check bunfile.Healthcheck
		least time.Duration
	}{
		{"without start period", bunfile.Healthcheck{Interval: seconds(2), Retries: 3}, 6 * time.Second},
		{"with start period", bunfile.Healthcheck{Interval: seconds(2), Retries: 3, StartPeriod: seconds(60)}, 66 * time.Second},
		{"defaults", bunfile.Healthcheck{}, 90 * time.Second},
	} {
		got := start(t, tc.check)
		if got < tc.least || got > tc.least+time.Second {
			t.Errorf("%s: unhealthy after %s, want %s and at most a probe more", tc.name, got, tc.least)
		}
	}
}

func TestFailuresInTheStartPeriodDoNotCount(t *testing.T) {
	tr := lifecycle.NewTracker(bunfile.Healthcheck{Retries: 1, Interval: seconds(1), StartPeriod: seconds(10)}, epoch)
	tr.Observe(true, epoch)
	if got := tr.Observe(false, epoch.Add(5*time.Second)); got != lifecycle.Healthy {
		t.Errorf("in the start period: %s", got)
	}
	if got := tr.Observe(false, epoch.Add(11*time.Second)); got != lifecycle.Unhealthy {
		t.Errorf("after it: %s", got)
	}
}

func TestProbesAreQuickAtFirst(t *testing.T) {
	tr := lifecycle.NewTracker(bunfile.Healthcheck{Interval: seconds(30)}, epoch)
	var total time.Duration
	for n := range 20 {
		d := tr.Delay()
		if d > time.Second {
			t.Fatalf("probe %d waits %s", n, d)
		}
		total += d
	}
	if first := 200 * time.Millisecond; total < first {
		t.Errorf("20 probes within %s", total)
	}
	tr.Observe(true, epoch)
	if got := tr.Delay(); got != 30*time.Second {
		t.Errorf("once healthy it waits %s", got)
	}
}

func TestResume(t *testing.T) {
	tr := lifecycle.NewTracker(bunfile.Healthcheck{Retries: 2}, epoch)
	tr.Resume(lifecycle.Healthy)
	if got := tr.Observe(false, epoch.Add(time.Hour)); got != lifecycle.Healthy {
		t.Errorf("one failure after taking over: %s", got)
	}
	tr = lifecycle.NewTracker(bunfile.Healthcheck{}, epoch)
	tr.Resume(lifecycle.HealthNone)
	if got := tr.Health(); got != lifecycle.HealthStarting {
		t.Errorf("resumed from nothing: %s", got)
	}
}
