package replica

import (
	"context"
	"hash"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

const (
	// deltaFrom is the size in bytes from which on changes of a file are sent
	// instead of all of it. Chunks have 8 KiB and more, so of smaller files there
	// would be little to save.
	deltaFrom = 64 << 10
	// listsBudget is how many bytes of memory the chunk lists of all volumes that a
	// Copier sends may take: enough for 13 GiB of files.
	listsBudget = 32 << 20
	// apartFrom is the size from which on two things are done with a content at the
	// same time, in two goroutines.
	apartFrom = 1 << 20
)

// helper does something with pieces of a content in a goroutine of its own, while
// its owner does something else with them. A nil one does nothing.
type helper struct {
	pieces chan []byte
	done   chan struct{}
}

// newHelper starts one. End it.
func newHelper(do func(piece []byte)) *helper {
	h := &helper{make(chan []byte), make(chan struct{})}
	go func() {
		defer close(h.done)
		for p := range h.pieces {
			do(p)
			h.done <- struct{}{}
		}
	}()
	return h
}

// begin hands a piece over, and wait waits until it is done with.
func (h *helper) begin(p []byte) { h.pieces <- p }

func (h *helper) wait() { <-h.done }

// end ends the goroutine, unless it has ended.
func (h *helper) end() {
	if h != nil && h.pieces != nil {
		close(h.pieces)
		<-h.done
		h.pieces = nil
	}
}

// lister makes the list of the chunks of a content while its digest is computed,
// which is about as much work, and is done at the same time for large ones.
type lister struct {
	hash    hash.Hash // nil where there is none to compute
	builder *delta.Builder
	helper  *helper // makes the list; nil for small ones
}

// newLister begins a list for a content of about a size. Close it.
func newLister(h hash.Hash, c delta.Class, size int64) *lister {
	l := &lister{hash: h, builder: delta.NewBuilder(c)}
	if h != nil && size >= apartFrom {
		l.helper = newHelper(func(p []byte) { _, _ = l.builder.Write(p) }) // it returns nil
	}
	return l
}

// close ends the work.
func (l *lister) close() { l.helper.end() }

// list returns the list.
func (l *lister) list() (*delta.List, error) {
	l.close()
	return l.builder.List()
}

// Write takes content.
func (l *lister) Write(p []byte) (int, error) {
	switch {
	case l.hash == nil:
		return l.builder.Write(p)
	case l.helper == nil:
		_, _ = l.builder.Write(p) // it returns nil
		return l.hash.Write(p)
	}
	l.helper.begin(p)
	defer l.helper.wait()
	return l.hash.Write(p)
}

// Zeros implements contentWriter.
func (l *lister) Zeros(ctx context.Context, n int64) error {
	l.builder.Zeros(n) // the helper waits
	if l.hash == nil {
		return nil
	}
	return writeZeros(ctx, l.hash, n)
}
