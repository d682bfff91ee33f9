package balance

import "math/bits"

// maxWeight keeps sums of weights far from overflow.
const maxWeight = 1 << 20

// weightParts is how finely weights are divided for those that warm up.
const weightParts = 64

// weighted takes turns in proportion to the weights, spread evenly and not in
// bursts (smooth weighted round-robin, as of nginx): every member earns its
// weight at each choice, the richest is chosen and pays what all have earned.
// Of equally rich ones it is always the first: if the turn decided, the choices
// would not repeat after a cycle, and one across two of them not be exact.
type weighted struct{}

func (weighted) choose(members []*member, _ int, f filter) int {
	best, sum, count := -1, int64(0), 0
	for i, m := range members {
		if !f.eligible(m) {
			continue
		}
		earned := max(int64(float64(m.weight)*weightParts*f.part(m)), 1)
		m.credit += earned
		sum, count = sum+earned, count+1
		if best < 0 || m.credit > members[best].credit {
			best = i
		}
	}
	if best < 0 {
		return -1
	}
	members[best].credit -= sum
	// Debts and savings from before others left, or came back, would shut a
	// member out, or let it alone serve, for a while. As long as nothing changes
	// nobody gets beyond these bounds.
	for _, m := range members {
		if f.eligible(m) {
			m.credit = min(max(m.credit, -sum), sum*int64(bits.Len(uint(count))))
		}
	}
	return best
}

// weightOf is the weight of a backend as it counts.
func weightOf(b Backend) int { return min(max(b.Weight, 1), maxWeight) }
