package balance

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestProbesHaveHysteresis(t *testing.T) {
	h := newHealth(&Check{Rise: 2, Fall: 3})
	now := time.Now()
	steps := []struct{ ok, want bool }{
		{false, true}, {false, true}, {true, true}, // two failures are not three
		{false, true}, {false, true}, {false, false},
		{true, false}, {false, false}, {true, false}, {true, true}, // two in a row
	}
	for i, s := range steps {
		if s.ok {
			h.probeSucceeded()
		} else {
			h.probeFailed()
		}
		if got := h.healthy(now); got != s.want {
			t.Fatalf("after step %d healthy = %v; want %v", i, got, s.want)
		}
	}
}

func TestEjectionBacksOff(t *testing.T) {
	h := newHealth(nil)
	now := time.Now()
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		want *= time.Second
		h.requestFailed(now, true, byConnection)
		if h.healthy(now) || h.healthy(now.Add(want-1)) || !h.healthy(now.Add(want)) {
			t.Fatalf("ejection %d ends at %v; want %v", i, h.until.Sub(now), want)
		}
		now = now.Add(want)
	}
	h.served()
	h.requestFailed(now, true, byConnection)
	if got := h.until.Sub(now); got != time.Second {
		t.Errorf("after a served request the ejection lasts %v; want a second", got)
	}
}

func TestTrafficEjectsAfterThree(t *testing.T) {
	h := newHealth(nil)
	now := time.Now()
	for _, failures := range []int{2, 2, 3} {
		for range failures {
			if !h.healthy(now) {
				t.Fatal("ejected too early")
			}
			h.requestFailed(now, false, byAnswer)
		}
		if h.healthy(now) != (failures < 3) {
			t.Fatalf("healthy = %v after %d failures in a row", h.healthy(now), failures)
		}
		if failures < 3 {
			h.served()
		}
	}
	until := h.until
	h.requestFailed(now, true, byConnection)
	if h.until != until {
		t.Error("a failure during the ejection lengthened it")
	}
}

// A probe ends an ejection that it can judge. One that was wrong, and those
// that only connect where a connection was not what failed, do not: the
// ejections take their time, and twice as long each time.
func TestProbesAndEjections(t *testing.T) {
	type step struct {
		do      string // dial fails, 3 fail, probe ok, probe fails, served, wait
		healthy bool
	}
	tests := map[string]struct {
		path  string
		steps []step
	}{
		"connecting is enough where that failed": {"", []step{
			{"dial fails", false}, {"probe ok", true}, {"dial fails", false}, {"probe ok", true},
		}},
		"connecting is not enough where answers failed": {"", []step{
			{"3 fail", false}, {"probe ok", false}, {"probe ok", false}, {"wait 1s", true},
			{"3 fail", false}, {"probe ok", false}, {"wait 1s", false}, {"wait 1s", true},
			{"3 fail", false}, {"probe ok", false}, {"wait 3s", false}, {"wait 1s", true},
			{"served", true}, {"3 fail", false}, {"wait 1s", true},
		}},
		"an answer is enough, once": {"/health", []step{
			{"3 fail", false}, {"probe ok", true},
			{"3 fail", false}, {"probe ok", false}, {"wait 1s", false}, {"wait 1s", true},
			{"3 fail", false}, {"probe ok", false}, {"wait 3s", false}, {"wait 1s", true},
		}},
		"an answer is enough again after a served request": {"/health", []step{
			{"3 fail", false}, {"probe ok", true}, {"served", true}, {"3 fail", false}, {"probe ok", true},
		}},
		"an answer is enough again where probes failed, too": {"/health", []step{
			{"3 fail", false}, {"probe ok", true}, {"3 fail", false}, {"probe fails", false}, {"probe ok", true},
		}},
		"a restart": {"/health", []step{
			{"3 fail", false}, {"probe ok", true}, {"dial fails", false}, {"probe ok", true},
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHealth(&Check{Path: tc.path, Rise: 1, Fall: 3})
			now := time.Now()
			for i, s := range tc.steps {
				switch s.do {
				case "dial fails":
					h.requestFailed(now, true, byConnection)
				case "3 fail":
					for range 3 {
						h.requestFailed(now, false, byAnswer)
					}
				case "probe ok":
					h.probeSucceeded()
				case "probe fails":
					h.probeFailed()
				case "served":
					h.served()
				default:
					d, err := time.ParseDuration(s.do[len("wait "):])
					if err != nil {
						t.Fatal(err)
					}
					now = now.Add(d)
				}
				if got := h.healthy(now); got != s.healthy {
					t.Fatalf("after step %d, %s, healthy = %v", i, s.do, got)
				}
			}
		})
	}
}

// Whatever happens: one failed probe ejects nothing where Fall is more, an
// ejection ends by itself within 30 s, traffic does not overrule probes.
func TestHealthInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &Check{Rise: rapid.IntRange(1, 4).Draw(t, "rise"), Fall: rapid.IntRange(1, 4).Draw(t, "fall")}
		h := newHealth(c)
		now := time.Now()
		bad, good := 0, 0
		t.Repeat(map[string]func(*rapid.T){
			"probe succeeds": func(*rapid.T) { h.probeSucceeded(); bad = 0; good++ },
			"probe fails":    func(*rapid.T) { h.probeFailed(); bad++; good = 0 },
			"served":         func(*rapid.T) { h.served() },
			"failed": func(t *rapid.T) {
				h.requestFailed(now, rapid.Bool().Draw(t, "fatal"), rapid.SampledFrom([]evidence{byConnection, byAnswer}).Draw(t, "evidence"))
			},
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, int(time.Minute)).Draw(t, "time")))
			},
			"": func(t *rapid.T) {
				if bad >= c.Fall && !h.down || h.down && bad == 0 && good >= c.Rise {
					t.Fatalf("down = %v after %d failed and %d successful probes", h.down, bad, good)
				}
				if h.until.Sub(now) > maxEjection {
					t.Fatalf("ejected for %v", h.until.Sub(now))
				}
				if !h.down && !h.healthy(now.Add(maxEjection)) {
					t.Fatal("an ejection does not end")
				}
			},
		})
	})
}

// watch runs the probes of one member in a bubble.
func watch(t *testing.T, c Check, probe func(context.Context, string) error) *pool {
	p := newPool(roundRobin{}, &c, slog.New(slog.DiscardHandler))
	added, _ := p.update(backendsNamed(1))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watchHealth(ctx, p, added[0], c.Interval, probe)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return p
}

func TestProbesFollowTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var (
			mu sync.Mutex
			at []time.Duration
		)
		var failing atomic.Bool
		p := watch(t, Check{Interval: 2 * time.Second, Rise: 1, Fall: 3}, func(context.Context, string) error {
			mu.Lock()
			at = append(at, time.Since(began))
			mu.Unlock()
			if failing.Load() {
				return errTest
			}
			return nil
		})
		synctest.Wait()
		mu.Lock()
		first := slices.Clone(at)
		mu.Unlock()
		if len(first) != 1 || first[0] != 0 {
			t.Fatalf("probes at %v; want the first at once", first)
		}
		// Look in the middle between two probes.
		time.Sleep(time.Second)
		failing.Store(true)
		for i, healthy := range []bool{true, true, false, false} {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := p.status()[0].Healthy; got != healthy {
				t.Fatalf("healthy = %v after %d failed probes", got, i+1)
			}
		}
		failing.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !p.status()[0].Healthy {
			t.Fatal("not back after a successful probe")
		}
		mu.Lock()
		defer mu.Unlock()
		for i, d := range at {
			if d != time.Duration(i)*2*time.Second {
				t.Fatalf("probes at %v; want every two seconds", at)
			}
		}
	})
}

func TestEjectedMemberComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(roundRobin{}, 2)
		p.release(p.pick(nil, 0), result{err: errTest, fatal: true})
		for range 4 {
			if m := p.pick(nil, 0); m.backend.ID != "b1" {
				t.Fatalf("%s was taken during its ejection", m.backend.ID)
			}
		}
		time.Sleep(minEjection)
		got := map[string]int{}
		for range 4 {
			got[p.pick(nil, 0).backend.ID]++
		}
		if got["b0"] != 2 || got["b1"] != 2 {
			t.Errorf("after the ejection the shares are %v", got)
		}
	})
}

// A probe under way when its member leaves tells nobody anything.
func TestProbeOfLeavingMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(roundRobin{}, &Check{Rise: 1, Fall: 1}, slog.New(slog.DiscardHandler))
		added, _ := p.update(backendsNamed(1))
		ctx, cancel := context.WithCancel(t.Context())
		go watchHealth(ctx, p, added[0], time.Second, func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if s := p.status()[0]; !s.Healthy || s.LastError != nil {
			t.Errorf("status = %+v", s)
		}
	})
}
