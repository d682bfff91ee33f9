package balance

// leastConnections takes an eligible member with the fewest requests under way,
// the next one of the ring among equals. One that warms up counts each as several,
// and sits some choices out, since where there is little to do all have none.
type leastConnections struct{}

func (leastConnections) choose(members []*member, start int, f filter) int {
	n, best, least := len(members), -1, 0.0
	for k := range n {
		i := (start + k) % n
		m := members[i]
		if !f.eligible(m) || f.rests(m) {
			continue
		}
		if load := float64(m.active) / f.part(m); best < 0 || load < least {
			best, least = i, load
		}
	}
	return best
}
