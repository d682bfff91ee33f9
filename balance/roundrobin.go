package balance

// roundRobin takes the next eligible member of the ring.
type roundRobin struct{}

func (roundRobin) choose(members []*member, start int, f filter) int {
	n := len(members)
	for k := range n {
		if i := (start + k) % n; f.eligible(members[i]) {
			return i
		}
	}
	return -1
}
