package balance

import (
	"math/bits"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// weightedBackends are up to six, of weights that a cycle of picks gets through.
func weightedBackends(t *rapid.T) []Backend {
	b := backendsNamed(rapid.IntRange(1, 6).Draw(t, "members"))
	for i := range b {
		b[i].Weight = rapid.IntRange(0, 20).Draw(t, "weight")
	}
	return b
}

func sumOf(ms []*member) (sum int) {
	for _, m := range ms {
		sum += m.weight
	}
	return sum
}

// Any cycle of as many picks as the weights add up to gives each member exactly
// its weight. In between nobody is a whole pick ahead of its share, nor far
// behind it.
func TestWeightedIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := testPool(weighted{}, 0)
		p.update(weightedBackends(t))
		sum := sumOf(p.members)
		var picks []*member
		got := map[*member]int{}
		for range 3 * sum {
			m := p.pick(nil, 0)
			p.release(m, result{answered: true})
			picks = append(picks, m)
			got[m]++
			for _, m := range p.members {
				owed := len(picks)*m.weight - got[m]*sum // in picks, times sum
				if owed <= -sum || owed > sum*bits.Len(uint(len(p.members))) {
					t.Fatalf("after %d picks %s of weight %d of %d has had %d", len(picks), m.backend.ID, m.weight, sum, got[m])
				}
			}
		}
		from := rapid.IntRange(0, 2*sum).Draw(t, "from")
		clear(got)
		for _, m := range picks[from : from+sum] {
			got[m]++
		}
		for _, m := range p.members {
			if got[m] != m.weight {
				t.Fatalf("%s of weight %d got %d of %d picks", m.backend.ID, m.weight, got[m], sum)
			}
		}
	})
}

// Whatever changed before, members, weights, health, everybody is served within
// two cycles and what the bounds of the credit allow.
func TestWeightedStarvesNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := testPool(weighted{}, 0)
		for range rapid.IntRange(0, 5).Draw(t, "changes") {
			p.update(weightedBackends(t))
			for _, m := range p.members {
				if rapid.Bool().Draw(t, "down") {
					p.probed(m, errTest)
				}
			}
			for range rapid.IntRange(0, 30).Draw(t, "picks") {
				p.release(p.pick(nil, 0), result{answered: true})
			}
		}
		p.update(weightedBackends(t))
		for _, m := range p.members {
			p.probed(m, nil)
		}
		n, sum := len(p.members), sumOf(p.members)
		got := map[*member]int{}
		for range (2 + n*bits.Len(uint(n))) * sum {
			m := p.pick(nil, 0)
			p.release(m, result{answered: true})
			got[m]++
		}
		for _, m := range p.members {
			if got[m] == 0 {
				t.Fatalf("%s of weight %d of %d got nothing", m.backend.ID, m.weight, sum)
			}
		}
	})
}

func TestWeightedExactUnderConcurrency(t *testing.T) {
	p := testPool(weighted{}, 0)
	b := backendsNamed(3)
	b[0].Weight, b[1].Weight, b[2].Weight = 5, 1, 2
	p.update(b)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 400 {
				p.release(p.pick(nil, 0), result{answered: true})
			}
		})
	}
	wg.Wait()
	for _, s := range p.status() {
		if want := uint64(10 * 400 / 8 * s.Weight); s.Requests != want || s.Active != 0 {
			t.Errorf("%s of weight %d got %d, %d active; want %d", s.ID, s.Weight, s.Requests, s.Active, want)
		}
	}
}

func TestWeightsAreBounded(t *testing.T) {
	for weight, want := range map[int]int{-1: 1, 0: 1, 1: 1, 7: 7, maxWeight: maxWeight, 1 << 40: maxWeight} {
		if got := weightOf(Backend{Weight: weight}); got != want {
			t.Errorf("weight %d counts as %d; want %d", weight, got, want)
		}
	}
}

// A new weight counts from the next pick on and leaves everything else alone.
func TestWeightChanges(t *testing.T) {
	p := testPool(weighted{}, 2)
	for range 10 {
		p.release(p.pick(nil, 0), result{answered: true})
	}
	b := backendsNamed(2)
	b[1].Weight = 4
	if added, removed := p.update(b); len(added)+len(removed) != 0 {
		t.Fatalf("a weight makes another backend: %v came, %v went", ids(added), ids(removed))
	}
	for range 10 {
		p.release(p.pick(nil, 0), result{answered: true})
	}
	if s := p.status(); s[0].Requests != 5+2 || s[1].Requests != 5+8 || s[1].Weight != 4 {
		t.Errorf("status = %+v; want 5 each, then 2 and 8", s)
	}
}
