package balance

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// tier is the place in which a member's kind comes: healthy ones first, and of
// equally healthy ones those that are no backups.
func tier(m *member) int {
	n := 0
	if m.health.down {
		n = 2
	}
	if m.backend.Backup {
		n++
	}
	return n
}

// Whatever the algorithm: a backup is chosen only where no other that is healthy was
// left to try, and the unhealthy come after healthy backups. All are tried in the end.
func TestBackupsComeLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPool(algorithms(t), nil, testPool(roundRobin{}, 0).log)
		backends := backendsNamed(rapid.IntRange(1, 7).Draw(t, "members"))
		for i := range backends {
			backends[i].Backup = rapid.Bool().Draw(t, "backup")
		}
		p.update(backends)
		for _, m := range p.members {
			if rapid.Bool().Draw(t, "down") {
				p.probed(m, errTest)
			}
		}
		for range rapid.IntRange(1, 5).Draw(t, "requests") {
			var tried []*member
			key := rapid.Uint64().Draw(t, "key")
			for range p.members {
				m := p.pick(tried, key)
				if m == nil {
					t.Fatalf("nobody after %d of %d", len(tried), len(p.members))
				}
				for _, other := range p.members {
					if !slices.Contains(tried, other) && tier(other) < tier(m) {
						t.Fatalf("%s (tier %d) came before %s (tier %d)", m.backend.ID, tier(m), other.backend.ID, tier(other))
					}
				}
				tried = append(tried, m)
			}
			if m := p.pick(tried, key); m != nil {
				t.Fatalf("%s was tried twice", m.backend.ID)
			}
		}
	})
}

// Where others are full a healthy backup helps out, rather than that requests wait.
func TestBackupsHelpOut(t *testing.T) {
	for _, alg := range everyAlgorithm() {
		p := newPool(alg, nil, testPool(roundRobin{}, 0).log)
		p.limits.BackendRequests = 2
		backends := backendsNamed(2)
		backends[1].Backup = true
		p.update(backends)
		var got []string
		for range 4 {
			got = append(got, p.pick(nil, 1).backend.ID)
		}
		if want := []string{"b0", "b0", "b1", "b1"}; !slices.Equal(got, want) {
			t.Errorf("%T chose %v, want %v", alg, got, want)
		}
		if m := p.pick(nil, 1); m != nil {
			t.Errorf("%T chose %s beyond its limit", alg, m.backend.ID)
		}
	}
}

// An update makes a backup of a member, and one of a backup, which keep their state.
func TestUpdateChangesBackups(t *testing.T) {
	p := testPool(roundRobin{}, 2)
	backends := backendsNamed(2)
	for i := range 4 {
		backends[i%2].Backup, backends[1-i%2].Backup = true, false
		if added, removed := p.update(backends); len(added)+len(removed) > 0 {
			t.Fatalf("%d came, and %d went", len(added), len(removed))
		}
		if m := p.pick(nil, 0); m.backend.ID != backends[1-i%2].ID || p.status()[i%2].Backup != true {
			t.Errorf("with %+v %s was chosen", backends, m.backend.ID)
		}
	}
}
