package balance

// leastConnections takes an eligible member with the fewest requests under way,
// the next one of the ring among equals.
type leastConnections struct{}

func (leastConnections) choose(members []*member, start int, f filter) int {
	n, best := len(members), -1
	for k := range n {
		i := (start + k) % n
		if !f.eligible(members[i]) {
			continue
		}
		if best < 0 || members[i].active < members[best].active {
			best = i
		}
	}
	return best
}
