package delta

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// Digest is the SHA-256 of a whole content.
type Digest [sha256.Size]byte

// entryOverhead is about what remembering a list costs besides its chunks: its
// List, its place in the order of use, and that in the index.
const entryOverhead = 256

// Memory remembers lists by the digest of their content, within a budget of
// memory: what was not used for longest goes first. It is safe for concurrent
// use. Make one with NewMemory.
type Memory struct {
	mu     sync.Mutex
	budget int64
	used   int64
	index  map[Digest]*list.Element
	recent *list.List // of *remembered, most recently used first
}

type remembered struct {
	digest Digest
	list   *List
}

// NewMemory returns a Memory that takes about budget bytes at most. With a
// budget of 0 or less it remembers nothing.
func NewMemory(budget int64) *Memory {
	return &Memory{budget: budget, index: make(map[Digest]*list.Element), recent: list.New()}
}

// Put remembers the list of a content. It does nothing for lists of fewer than
// two chunks, which are of no use for a plan, and for lists that are larger
// than the budget. The list stays shared.
func (m *Memory) Put(d Digest, l *List) {
	if l.Len() < 2 || cost(l) > m.budget {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.index[d]; ok {
		m.forget(e) // it may have been of another class
	}
	m.index[d] = m.recent.PushFront(&remembered{d, l})
	m.used += cost(l)
	for m.used > m.budget {
		m.forget(m.recent.Back())
	}
}

// Get returns the list of a content, or nil if it is not remembered. That
// counts as use.
func (m *Memory) Get(d Digest) *List {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.index[d]
	if !ok {
		return nil
	}
	m.recent.MoveToFront(e)
	return e.Value.(*remembered).list
}

// Peek returns what Get does, and does not count as use.
func (m *Memory) Peek(d Digest) *List {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.index[d]; ok {
		return e.Value.(*remembered).list
	}
	return nil
}

// Used returns how many bytes of the budget are taken.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// forget removes an entry. The caller holds mu.
func (m *Memory) forget(e *list.Element) {
	r := m.recent.Remove(e).(*remembered)
	delete(m.index, r.digest)
	m.used -= cost(r.list)
}

func cost(l *List) int64 { return entryOverhead + int64(cap(l.chunks))*chunkSize }
