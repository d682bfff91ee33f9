package balance

// roundRobin takes the next eligible member of the ring. One that warms up lets turns
// pass.
type roundRobin struct{}

func (roundRobin) choose(members []*member, start int, f filter) int {
	n := len(members)
	for k := range n {
		i := (start + k) % n
		if m := members[i]; f.eligible(m) && m.takesTurn(f.part(m)) {
			return i
		}
	}
	return -1
}

// takesTurn reports whether a member takes its turn, of which it is to take a part.
func (m *member) takesTurn(part float64) bool {
	if m.turns += part; m.turns < 1 {
		return false
	}
	m.turns = min(m.turns-1, 1)
	return true
}
