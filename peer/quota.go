package peer

import "sync"

// A quota counts what is under way, in all and per key, such as an address. Its
// methods may be called concurrently.
type quota[K comparable] struct {
	all, each int

	mu  sync.Mutex
	n   int
	per map[K]int
}

func newQuota[K comparable](all, each int) *quota[K] {
	return &quota[K]{all: all, each: each, per: make(map[K]int)}
}

// enter counts one more, and reports false instead where there is no room.
func (q *quota[K]) enter(k K) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n >= q.all || q.per[k] >= q.each {
		return false
	}
	q.n++
	q.per[k]++
	return true
}

// leave takes back what enter counted.
func (q *quota[K]) leave(k K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.n--
	if q.per[k]--; q.per[k] == 0 {
		delete(q.per, k)
	}
}
