package balance

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"pgregory.net/rapid"
)

var errTest = errors.New("as the test wants")

func testPool(alg algorithm, n int) *pool {
	p := newPool(alg, nil, slog.New(slog.DiscardHandler))
	p.update(backendsNamed(n))
	return p
}

func backendsNamed(n int) []Backend {
	b := make([]Backend, n)
	for i := range b {
		b[i] = Backend{ID: fmt.Sprintf("b%d", i), Addr: fmt.Sprintf("127.0.0.1:%d", i+1)}
	}
	return b
}

func everyAlgorithm() []algorithm {
	return []algorithm{roundRobin{}, leastConnections{}, powerOfTwo{}, weighted{}, consistentHash{}}
}

func algorithms(t *rapid.T) algorithm {
	return rapid.SampledFrom(everyAlgorithm()).Draw(t, "algorithm")
}

func TestAlgorithmNamed(t *testing.T) {
	for name, want := range map[bunfile.Algorithm]algorithm{
		"": roundRobin{}, bunfile.RoundRobin: roundRobin{}, bunfile.LeastConnections: leastConnections{},
		bunfile.PowerOfTwo: powerOfTwo{}, bunfile.Weighted: weighted{}, bunfile.ConsistentHash: consistentHash{},
	} {
		if got, ok := algorithmNamed(name); !ok || got != want {
			t.Errorf("algorithmNamed(%q) = %T, %v; want %T", name, got, ok, want)
		}
	}
	for _, name := range bunfile.Algorithms() {
		if _, ok := algorithmNamed(name); !ok {
			t.Errorf("%s is an algorithm of .bun files, and not of this package", name)
		}
	}
	if _, ok := algorithmNamed("fastest"); ok {
		t.Error("algorithmNamed knows an algorithm that does not exist")
	}
}

// Every window of k·n picks gives each of n members exactly k, wherever the
// window begins and whatever was released in between.
func TestRoundRobinExactInEveryWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "members")
		p := testPool(roundRobin{}, n)
		picked := make([]*member, rapid.IntRange(n, 8*n).Draw(t, "picks"))
		for i := range picked {
			picked[i] = p.pick(nil, 0)
			if rapid.Bool().Draw(t, "release") {
				p.release(picked[i], result{answered: true})
			}
		}
		from := rapid.IntRange(0, len(picked)-n).Draw(t, "from")
		k := rapid.IntRange(1, (len(picked)-from)/n).Draw(t, "k")
		counts := map[*member]int{}
		for _, m := range picked[from : from+k*n] {
			counts[m]++
		}
		for _, m := range p.members {
			if counts[m] != k {
				t.Fatalf("%s got %d of %d picks from %d members; want %d", m.backend.ID, counts[m], k*n, n, k)
			}
		}
	})
}

// Without a release both algorithms share exactly, under any interleaving.
func TestExactUnderConcurrency(t *testing.T) {
	const members, goroutines, each = 7, 14, 500
	for _, alg := range []algorithm{roundRobin{}, leastConnections{}} {
		t.Run(fmt.Sprintf("%T", alg), func(t *testing.T) {
			p := testPool(alg, members)
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for range each {
						p.pick(nil, 0)
					}
				})
			}
			wg.Wait()
			for _, s := range p.status() {
				if want := goroutines * each / members; s.Active != want || s.Requests != uint64(want) {
					t.Errorf("%s got %d, %d active; want %d", s.ID, s.Requests, s.Active, want)
				}
			}
		})
	}
}

// Picks and releases from many goroutines leave nothing behind, and round-robin
// shares exactly with releases in between, too.
func TestExactUnderConcurrentRelease(t *testing.T) {
	const members, goroutines, each = 5, 10, 500
	for _, alg := range []algorithm{roundRobin{}, leastConnections{}} {
		p := testPool(alg, members)
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range each {
					p.release(p.pick(nil, 0), result{answered: true})
				}
			})
		}
		wg.Wait()
		for _, s := range p.status() {
			if s.Active != 0 {
				t.Errorf("%T: %s has %d active at the end", alg, s.ID, s.Active)
			}
			if want := uint64(goroutines * each / members); alg == (roundRobin{}) && s.Requests != want {
				t.Errorf("%s got %d; want %d", s.ID, s.Requests, want)
			}
		}
	}
}

// Least-connections never takes a member while another has fewer under way, and
// equals take turns.
func TestLeastConnectionsNeverBusier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := testPool(leastConnections{}, rapid.IntRange(1, 6).Draw(t, "members"))
		var under []*member
		t.Repeat(map[string]func(*rapid.T){
			"pick": func(t *rapid.T) {
				m := p.pick(nil, 0)
				under = append(under, m)
				for _, o := range p.members {
					if o.active < m.active-1 {
						t.Fatalf("took %s with %d active; %s had %d", m.backend.ID, m.active-1, o.backend.ID, o.active)
					}
				}
			},
			"release": func(t *rapid.T) {
				if len(under) == 0 {
					t.Skip("nothing under way")
				}
				i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
				p.release(under[i], result{answered: true})
				under = slices.Delete(under, i, i+1)
			},
			"tell": func(t *rapid.T) {
				p.update(subset(t))
			},
			"": func(t *rapid.T) {
				if len(p.members) == 0 {
					p.update(backendsNamed(2))
				}
			},
		})
	})
}

func subset(t *rapid.T) []Backend {
	all := backendsNamed(8)
	return slices.DeleteFunc(rapid.Permutation(all).Draw(t, "backends"), func(b Backend) bool {
		return b.Addr[len(b.Addr)-1]%2 == byte(rapid.IntRange(0, 2).Draw(t, "leave"))
	})
}

func TestLeastConnectionsTiesRotate(t *testing.T) {
	p := testPool(leastConnections{}, 3)
	var order []string
	for range 6 {
		m := p.pick(nil, 0)
		order = append(order, m.backend.ID)
		p.release(m, result{answered: true})
	}
	if want := []string{"b0", "b1", "b2", "b0", "b1", "b2"}; !slices.Equal(order, want) {
		t.Errorf("idle members were taken in the order %v; want %v", order, want)
	}
}

// After a change of the members or their health nobody gets two more than
// another, and one that stays never loses its turn to the change.
func TestRoundRobinFairAcrossChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := testPool(roundRobin{}, rapid.IntRange(1, 8).Draw(t, "members"))
		since := map[*member]int{} // picks since the last change
		t.Repeat(map[string]func(*rapid.T){
			"pick": func(t *rapid.T) {
				if m := p.pick(nil, 0); m != nil {
					since[m]++
				}
			},
			"update": func(t *rapid.T) {
				before := slices.Clone(p.members)
				turn := slices.Concat(before, before)[p.next:][:len(before)]
				added, removed := p.update(subset(t))
				clear(since)
				checkUpdate(t, p, before, added, removed)
				checkTurn(t, p, turn, removed)
			},
			"probe": func(t *rapid.T) {
				if len(p.members) == 0 {
					t.Skip("nobody to probe")
				}
				m := rapid.SampledFrom(p.members).Draw(t, "member")
				p.probed(m, rapid.SampledFrom([]error{nil, errTest}).Draw(t, "outcome"))
				clear(since)
			},
			"": func(t *rapid.T) { checkShares(t, p, since) },
		})
	})
}

// checkTurn demands that those that stay keep their order, from the one whose
// turn it was on.
func checkTurn(t *rapid.T, p *pool, turn, removed []*member) {
	stay := slices.DeleteFunc(turn, func(m *member) bool { return slices.Contains(removed, m) })
	if len(p.members) == 0 {
		return
	}
	now := slices.Concat(p.members, p.members)[p.next%len(p.members):][:len(p.members)]
	now = slices.DeleteFunc(now, func(m *member) bool { return !slices.Contains(stay, m) })
	if !slices.Equal(now, stay) {
		t.Fatalf("the update changed the order of those that stay: %v, was %v", ids(now), ids(stay))
	}
}

func ids(ms []*member) (s []string) {
	for _, m := range ms {
		s = append(s, m.backend.ID)
	}
	return s
}

func checkUpdate(t *rapid.T, p *pool, before, added, removed []*member) {
	for _, m := range p.members {
		if slices.Contains(before, m) == slices.Contains(added, m) {
			t.Fatalf("%s is in the pool, and neither old nor reported as added", m.backend.ID)
		}
	}
	for _, m := range before {
		if slices.Contains(p.members, m) == slices.Contains(removed, m) {
			t.Fatalf("%s was in the pool, and has neither stayed nor been reported as removed", m.backend.ID)
		}
	}
}

func checkShares(t *rapid.T, p *pool, since map[*member]int) {
	up := slices.DeleteFunc(slices.Clone(p.members), func(m *member) bool { return m.health.down })
	if len(up) == 0 {
		up = p.members
	}
	if len(up) == 0 {
		return
	}
	least, most := since[up[0]], since[up[0]]
	sum := 0
	for _, m := range up {
		least, most, sum = min(least, since[m]), max(most, since[m]), sum+since[m]
	}
	for _, n := range since {
		sum -= n
	}
	if most-least > 1 || sum != 0 {
		t.Fatalf("since the last change the shares are %v", since)
	}
}

// A request never meets a member twice, sees the healthy ones first, and gets
// nobody only after everybody.
func TestPickSkipsTried(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 7).Draw(t, "members")
		p := testPool(algorithms(t), n)
		healthy := 0
		for _, m := range p.members {
			if rapid.Bool().Draw(t, "down") {
				p.probed(m, errTest)
			} else {
				healthy++
			}
		}
		var tried []*member
		for i := range n {
			m := p.pick(tried, 0)
			if m == nil || slices.Contains(tried, m) {
				t.Fatalf("pick %d of %d gave %v after %v", i, n, m, tried)
			}
			if m.health.down != (i >= healthy) {
				t.Fatalf("pick %d gave down=%v with %d healthy members", i, m.health.down, healthy)
			}
			tried = append(tried, m)
		}
		if m := p.pick(tried, 0); m != nil {
			t.Fatalf("got %s after all were tried", m.backend.ID)
		}
	})
}

func TestReleaseCounts(t *testing.T) {
	tests := map[string]struct {
		r        result
		requests uint64
		failures uint64
		healthy  bool
	}{
		"answered":        {result{answered: true}, 1, 0, true},
		"client left":     {result{}, 0, 0, true},
		"failed once":     {result{err: errTest}, 0, 1, true},
		"broken off":      {result{answered: true, err: errTest}, 1, 1, true},
		"refused":         {result{err: errTest, fatal: true}, 0, 1, false},
		"lack of sockets": {result{err: errTest, fatal: true, blameless: true}, 0, 1, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := testPool(roundRobin{}, 1)
			p.release(p.pick(nil, 0), tc.r)
			s := p.status()[0]
			if s.Active != 0 || s.Requests != tc.requests || s.Failures != tc.failures || s.Healthy != tc.healthy {
				t.Errorf("status = %+v", s)
			}
			if !errors.Is(s.LastError, tc.r.err) {
				t.Errorf("last error = %v; want %v", s.LastError, tc.r.err)
			}
		})
	}
}

// That a connection from before an ejection did well says nothing of that.
func TestOldConnectionEndsNoEjection(t *testing.T) {
	p := testPool(roundRobin{}, 1)
	m := p.members[0]
	before := time.Now().Add(-time.Second)
	eject(p, m)
	p.served(m, before)
	if m.health.until.IsZero() {
		t.Error("an old connection has ended the ejection")
	}
	p.served(m, m.health.ejected)
	if !m.health.until.IsZero() {
		t.Error("a new connection has not ended the ejection")
	}
}

// What is under way at a backend counts, also where it was away from the list meanwhile,
// once or more often.
func TestActiveSurvivesUpdates(t *testing.T) {
	p := testPool(leastConnections{}, 1)
	p.limits.BackendRequests = 2
	first := p.pick(nil, 0)
	p.update(nil)
	p.update(backendsNamed(1))
	second := p.pick(nil, 0)
	if second == nil || second == first || second.active != 2 {
		t.Fatalf("picked %+v", second)
	}
	p.update(nil)
	p.update(backendsNamed(1))
	third := p.members[0]
	if p.pick(nil, 0) != nil || third.active != 2 {
		t.Fatalf("there is room at %+v", third)
	}
	p.release(first, result{answered: true})
	if third.active != 1 {
		t.Errorf("%d are under way after the first has ended", third.active)
	}
	p.release(second, result{answered: true})
	if third.active != 0 || len(p.left) != 0 {
		t.Errorf("%d are under way after both have ended, %d have left", third.active, len(p.left))
	}
	if m := p.pick(nil, 0); m != third {
		t.Errorf("picked %+v", m)
	} else {
		p.update(nil)
		p.release(m, result{answered: true})
	}
	if len(p.left) != 0 {
		t.Error("one that has left and ended is remembered")
	}
}
