package balance

import (
	"slices"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// algorithm chooses among the members of a pool. Implementations hold no state
// of their own: the pool keeps the place in the ring, each member what is known
// of it, and the pool's lock is held, which makes the choice exact under
// concurrency.
type algorithm interface {
	// choose returns the index of an eligible member, -1 where there is none.
	// start, which may be len(members), is the place after the last choice. The
	// caller counts the request as under way at the member that was chosen.
	choose(members []*member, start int, f filter) int
}

// algorithmNamed returns the algorithm of a name, round-robin for the empty one.
func algorithmNamed(name bunfile.Algorithm) (algorithm, bool) {
	switch name {
	case "", bunfile.RoundRobin:
		return roundRobin{}, true
	case bunfile.LeastConnections:
		return leastConnections{}, true
	case bunfile.PowerOfTwo:
		return powerOfTwo{}, true
	case bunfile.Weighted:
		return weighted{}, true
	case bunfile.ConsistentHash:
		return consistentHash{}, true
	}
	return nil, false
}

// filter says which members may be chosen, and for what. It is a plain value,
// not a function, to keep the hot path free of allocations.
type filter struct {
	tried     []*member
	now       time.Time
	key       uint64 // equal for requests that belong together
	unhealthy bool   // unhealthy ones too
	backups   bool   // backups too
	most      int    // requests under way at a member, 0 is no bound

	slow    time.Duration // for how long members are warming up, 0 where none is
	warmest float64       // of those that may be chosen, see part
}

func (f filter) eligible(m *member) bool {
	return (f.backups || !m.backend.Backup) && (f.most == 0 || m.active < f.most) && (f.unhealthy || m.health.healthy(f.now)) && !slices.Contains(f.tried, m)
}
