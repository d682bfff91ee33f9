package balance

import (
	"slices"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// algorithm chooses among the members of a pool. Implementations hold no state:
// the pool keeps the place in the ring, counts, and calls under its lock, which
// makes the choice exact under concurrency.
type algorithm interface {
	// choose returns the index of an eligible member, -1 where there is none.
	// start, which may be len(members), is the place after the last choice.
	choose(members []*member, start int, f filter) int
}

// algorithmNamed returns the algorithm of a name, round-robin for the empty one.
func algorithmNamed(name bunfile.Algorithm) (algorithm, bool) {
	switch name {
	case "", bunfile.RoundRobin:
		return roundRobin{}, true
	case bunfile.LeastConnections:
		return leastConnections{}, true
	}
	return nil, false
}

// filter says which members may be chosen. It is a plain value, not a function,
// to keep the hot path free of allocations.
type filter struct {
	tried     []*member
	now       time.Time
	unhealthy bool // unhealthy ones too
}

func (f filter) eligible(m *member) bool {
	return (f.unhealthy || m.health.healthy(f.now)) && !slices.Contains(f.tried, m)
}
