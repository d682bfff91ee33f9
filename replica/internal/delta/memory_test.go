package delta

import (
	"encoding/binary"
	"sync"
	"testing"
)

// named returns the digest that stands for a number.
func named(n int) (d Digest) {
	binary.BigEndian.PutUint64(d[:], uint64(n))
	return d
}

// listOfChunks returns a list of n chunks.
func listOfChunks(n int) *List {
	l := &List{chunks: make([]chunk, n)}
	for i := range l.chunks {
		l.chunks[i].length = minChunk
		l.size += minChunk
	}
	return l
}

func TestMemory(t *testing.T) {
	each := cost(listOfChunks(10))
	m := NewMemory(3*each + each/2)
	lists := make([]*List, 5)
	holds := func(when string, want ...int) {
		t.Helper()
		have := make(map[int]bool)
		for i := range lists {
			// Not by Get, which is a use.
			if e, ok := m.index[named(i)]; ok {
				have[i] = true
				if e.Value.(*remembered).list != lists[i] {
					t.Errorf("%s: list %d is another one", when, i)
				}
			}
		}
		for _, i := range want {
			if !have[i] {
				t.Errorf("%s: list %d is forgotten", when, i)
			}
		}
		if len(have) != len(want) || m.Used() != int64(len(want))*each || m.recent.Len() != len(want) {
			t.Errorf("%s: %v, %d bytes used, want %v", when, have, m.Used(), want)
		}
	}
	put := func(i int) {
		lists[i] = listOfChunks(10)
		m.Put(named(i), lists[i])
	}
	put(0)
	put(1)
	put(2)
	holds("at first", 0, 1, 2)
	put(3)
	holds("beyond the budget", 1, 2, 3)
	if m.Get(named(1)) != lists[1] || m.Get(named(0)) != nil || m.Get(named(9)) != nil {
		t.Error("Get finds something else")
	}
	put(4)
	holds("after a use", 1, 3, 4)
	put(3)
	holds("after one was put again", 1, 3, 4)
	m.Put(named(7), listOfChunks(1))
	m.Put(named(8), &List{})
	m.Put(named(9), listOfChunks(1000))
	holds("after useless and too large ones", 1, 3, 4)
	put(0)
	holds("after the order of use changed", 0, 3, 4)
}

func TestMemoryWithoutBudget(t *testing.T) {
	for _, budget := range []int64{0, -1} {
		m := NewMemory(budget)
		m.Put(named(1), listOfChunks(2))
		if m.Get(named(1)) != nil || m.Used() != 0 {
			t.Errorf("with a budget of %d it remembers", budget)
		}
	}
}

// A list of many chunks makes room for itself by forgetting several others.
func TestMemoryForgetsSeveral(t *testing.T) {
	m := NewMemory(cost(listOfChunks(1000)))
	for i := range 50 {
		m.Put(named(i), listOfChunks(10))
	}
	m.Put(named(99), listOfChunks(1000))
	if m.Get(named(99)) == nil || len(m.index) != 1 || m.Used() != m.budget {
		t.Errorf("%d lists of %d bytes, of %d", len(m.index), m.Used(), m.budget)
	}
}

func TestMemoryIsSharedSafely(t *testing.T) {
	const lists, users = 20, 8
	m := NewMemory(5 * cost(listOfChunks(lists+2)))
	var group sync.WaitGroup
	for user := range users {
		group.Go(func() {
			for i := range 500 {
				n := (i*7 + user) % lists
				if l := m.Get(named(n)); l != nil && l.Len() != n+2 {
					t.Errorf("list %d has %d chunks", n, l.Len())
				}
				m.Put(named(n), listOfChunks(n+2))
				if used := m.Used(); used > m.budget {
					t.Errorf("%d bytes used, of %d", used, m.budget)
				}
			}
		})
	}
	group.Wait()
	var sum int64
	for e := m.recent.Front(); e != nil; e = e.Next() {
		sum += cost(e.Value.(*remembered).list)
	}
	if sum != m.Used() || len(m.index) != m.recent.Len() || sum == 0 {
		t.Errorf("%d bytes used, said to be %d", sum, m.Used())
	}
}
