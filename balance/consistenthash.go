package balance

// The bound on a member's load under consistent hashing: loadNum/loadDen of the
// average, rounded up, but not less than freeLoad.
const (
	loadNum, loadDen = 5, 4
	freeLoad         = 16
)

// consistentHash sends what has the same key to the same member, found by
// rendezvous hashing (Thaler and Ravishankar, 1998): of the eligible members it
// takes the one whose identifier scores highest together with the key. When a
// member comes or goes, only the keys that it gets or had move. Every node
// comes to the same result without talking to others.
//
// The load of a member is bounded (Mirrokni, Thorup and Zadimoghaddam, 2018):
// above the bound a key goes to its next best member. The bound leaves small
// numbers alone, where the average means little, or else two requests of one
// client at the same time would never meet.
type consistentHash struct{}

func (consistentHash) choose(members []*member, _ int, f filter) int {
	count, active := 0, 0
	for _, m := range members {
		if f.eligible(m) {
			count, active = count+1, active+m.active
		}
	}
	if count == 0 {
		return -1
	}
	bound := loadBound(active+1, count)
	if f.slow > 0 {
		if i := ownerOf(members, f, bound, true); i >= 0 {
			return i
		}
	}
	// Somebody is below the bound: it is not less than the average.
	return ownerOf(members, f, bound, false)
}

// ownerOf returns the eligible member below the bound that scores highest, -1 where
// there is none. Where slowly is set, one that warms up has only a part of its keys,
// always the same and more and more of them.
func ownerOf(members []*member, f filter, bound int, slowly bool) int {
	best, high := -1, uint64(0)
	for i, m := range members {
		if m.active >= bound || !f.eligible(m) || slowly && !m.hasTaken(f.key, f.part(m)) {
			continue
		}
		score := mix(m.idHash ^ f.key)
		if best < 0 || score > high || score == high && m.backend.ID < members[best].backend.ID {
			best, high = i, score
		}
	}
	return best
}

// hasTaken reports whether a key is in the part of its keys that a member that warms
// up has so far.
func (m *member) hasTaken(key uint64, part float64) bool {
	return part >= 1 || float64(mix(mix(m.idHash^key)+1)) < part*(1<<64)
}

// loadBound is how many of active requests one of count members may have.
func loadBound(active, count int) int {
	return max((loadNum*active+loadDen*count-1)/(loadDen*count), freeLoad)
}

// hashText is FNV-1a, which gives the same on every node.
func hashText(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix makes each bit depend on all others (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
