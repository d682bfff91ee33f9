package balance

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"pgregory.net/rapid"
)

// warming returns a pool in which the first n members are warm, and one more has
// just joined.
func warming(t testing.TB, name bunfile.Algorithm, n int, slow time.Duration) (p *pool, newcomer *member) {
	t.Helper()
	alg, ok := algorithmNamed(name)
	if !ok {
		t.Fatal(name)
	}
	p = newPool(alg, &Check{Rise: 1, Fall: 1}, slog.New(slog.DiscardHandler))
	p.slow = slow
	var b []Backend
	for i := range n {
		b = append(b, Backend{ID: fmt.Sprint(i), Addr: "a"})
	}
	p.update(b)
	time.Sleep(slow) // in a bubble
	p.update(append(b, Backend{ID: "newcomer", Addr: "a"}))
	return p, p.members[n]
}

// share picks a number of times, each of which ends before the next, and returns
// the part of them that a member got.
func share(t testing.TB, p *pool, of *member, picks int) float64 {
	t.Helper()
	got := 0
	for key := range picks {
		m := p.pick(nil, mix(uint64(key)))
		if m == nil {
			t.Fatal("nobody was picked")
		}
		if m == of {
			got++
		}
		p.answered(m, answer{took: time.Millisecond})
		p.release(m, result{answered: true})
	}
	return float64(got) / float64(picks)
}

// With every algorithm a newcomer's share rises evenly from a tenth of it to all of
// it, and stays there.
func TestSlowStart(t *testing.T) {
	const slow, picks = 10 * time.Second, 4000
	for _, name := range bunfile.Algorithms() {
		t.Run(string(name), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, others := range []int{1, 4} {
					p, m := warming(t, name, others, slow)
					for _, at := range []float64{0, .25, .5, .75, 1, 2} {
						part := min(leastWarmth+(1-leastWarmth)*at, 1)
						if s := p.status(); math.Abs(s[others].Share-part) > .001 || s[0].Share != 1 {
							t.Errorf("after %v of the time the status is %+v", at, s)
						}
						want := part / (float64(others) + part)
						if name == bunfile.PowerOfTwo || name == bunfile.ConsistentHash {
							want = part / float64(others+1) // of what it is drawn for, or of its keys
						}
						if got := share(t, p, m, picks); math.Abs(got-want) > .035 {
							t.Errorf("beside %d, after %v of the time: %.3f of the picks, want %.3f", others, at, got, want)
						}
						if at < 1 {
							time.Sleep(slow / 4)
						}
					}
				}
			})
		})
	}
}

// Where all are new all get their full share at once.
func TestSlowStartOfAll(t *testing.T) {
	for _, name := range bunfile.Algorithms() {
		synctest.Test(t, func(t *testing.T) {
			alg, _ := algorithmNamed(name)
			p := newPool(alg, nil, slog.New(slog.DiscardHandler))
			p.slow = time.Minute
			p.update([]Backend{{ID: "a"}, {ID: "b"}, {ID: "c"}})
			for _, m := range p.members {
				if got := share(t, p, m, 3000); math.Abs(got-1./3) > .05 {
					t.Errorf("%s: %s got %.3f", name, m.backend.ID, got)
				}
			}
		})
	}
}

// Who comes back begins anew, be it by a probe or because an ejection is over.
func TestSlowStartAfterReturn(t *testing.T) {
	const slow = 10 * time.Second
	failed := errors.New("failed")
	for name, out := range map[string]func(p *pool, m *member){
		"by probes": func(p *pool, m *member) { p.probed(m, failed); time.Sleep(time.Second); p.probed(m, nil) },
		"by probes, once more": func(p *pool, m *member) {
			eject(p, m)
			time.Sleep(minEjection)
			p.probed(m, failed)
			time.Sleep(2 * slow)
			p.probed(m, nil)
		},
		"by time":           func(p *pool, m *member) { eject(p, m); time.Sleep(minEjection) },
		"by time, and then": func(p *pool, m *member) { eject(p, m); time.Sleep(minEjection); p.served(m, time.Now()) },
		"by a probe before": func(p *pool, m *member) { eject(p, m); p.probed(m, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, m := warming(t, bunfile.RoundRobin, 1, slow)
				time.Sleep(slow)
				if got := share(t, p, m, 100); got != .5 {
					t.Fatalf("share %.2f before", got)
				}
				out(p, m)
				if !m.health.healthy(time.Now()) {
					t.Fatal("it is not back")
				}
				if got := share(t, p, m, 1000); math.Abs(got-leastWarmth/(1+leastWarmth)) > .02 {
					t.Errorf("share %.3f when it is back", got)
				}
				time.Sleep(slow / 2)
				if got := share(t, p, m, 1000); math.Abs(got-.55/1.55) > .03 {
					t.Errorf("share %.3f at half of the time", got)
				}
				time.Sleep(slow / 2)
				if got := share(t, p, m, 100); math.Abs(got-.5) > .02 {
					t.Errorf("share %.2f in the end", got)
				}
			})
		})
	}
}

// eject takes a member out by a failed dial.
func eject(p *pool, m *member) {
	p.mu.Lock()
	m.active++
	m.requests++
	m.latency.asked(time.Now())
	p.mu.Unlock()
	p.release(m, result{err: errors.New("refused"), fatal: true, unreachable: true})
}

// A key that a newcomer has taken stays with it while it warms up.
func TestSlowStartMovesKeysOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := warming(t, bunfile.ConsistentHash, 3, 10*time.Second)
		taken := make(map[uint64]bool)
		for range 11 {
			for k := range uint64(1000) {
				key := mix(k)
				got := p.pick(nil, key)
				p.release(got, result{answered: true})
				if taken[key] && got != m {
					t.Fatalf("key %d went back", k)
				}
				taken[key] = got == m
			}
			time.Sleep(time.Second)
		}
	})
}

// Under load a newcomer has no more requests under way than its part, and little
// less: what it misses is what the lot gave to the other while it had room.
func TestSlowStartUnderLoad(t *testing.T) {
	const runs = 200 // since who rests is drawn by lot, only the mean of many says something
	synctest.Test(t, func(t *testing.T) {
		all := 0
		for range runs {
			p, m := warming(t, bunfile.LeastConnections, 1, 10*time.Second)
			for range 110 {
				p.pick(nil, 0)
			}
			if m.active > 11 {
				t.Errorf("%d of 110 are under way at the newcomer, want 10 at most", m.active)
			}
			all += m.active
		}
		if mean := float64(all) / runs; mean < 7.5 {
			t.Errorf("%.1f of 110 are under way at the newcomer on average, want nearly 10", mean)
		}
	})
}

// Somebody is always picked while somebody may be, whatever is new, out, full or
// tried.
func TestSlowStartAlwaysPicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alg, _ := algorithmNamed(rapid.SampledFrom(bunfile.Algorithms()).Draw(t, "algorithm"))
		p := newPool(alg, &Check{Rise: 1, Fall: 1}, slog.New(slog.DiscardHandler))
		p.slow = rapid.SampledFrom([]time.Duration{0, time.Nanosecond, time.Hour}).Draw(t, "slow")
		p.limits.BackendRequests = rapid.IntRange(0, 3).Draw(t, "most")
		var b []Backend
		for i := range rapid.IntRange(1, 5).Draw(t, "members") {
			b = append(b, Backend{ID: fmt.Sprint(i), Weight: rapid.IntRange(0, 3).Draw(t, "weight")})
		}
		p.update(b)
		now := time.Now()
		for _, m := range p.members {
			m.warmFrom = now.Add(-time.Duration(rapid.Int64Range(-int64(time.Hour), int64(2*time.Hour)).Draw(t, "age")))
			if rapid.Bool().Draw(t, "out") {
				p.probed(m, errors.New("failed"))
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "picks") {
			may := 0
			healthy := 0
			for _, m := range p.members {
				room := p.limits.BackendRequests == 0 || m.active < p.limits.BackendRequests
				if m.health.healthy(now) {
					healthy++
				}
				if room && m.health.healthy(now) {
					may++
				}
			}
			if m := p.pick(nil, rapid.Uint64().Draw(t, "key")); m == nil && may > 0 {
				t.Fatalf("nobody was picked of %d that may be", may)
			} else if m != nil && healthy > 0 && !m.health.healthy(now) {
				t.Fatal("one was picked that is out")
			}
		}
	})
}

func TestSlowStartIsValidated(t *testing.T) {
	_, _, err := validate(Config{Mode: bunfile.ModeTCP, Listener: &net.TCPListener{}, SlowStart: -1})
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("err = %v", err)
	}
}
