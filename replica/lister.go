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
	// apartFrom is the size from which on a list is made in a goroutine of its own.
	apartFrom = 1 << 20
)

// lister makes the list of the chunks of a content while its digest is computed,
// which is about as much work, and is done at the same time for large ones.
type lister struct {
	hash    hash.Hash // nil where there is none to compute
	builder *delta.Builder
	// pieces are for the goroutine; nil if there is none. It says on done that it
	// is through with one.
	pieces chan []byte
	done   chan struct{}
}

// newLister begins a list for a content of about a size. Close it.
func newLister(h hash.Hash, c delta.Class, size int64) *lister {
	l := &lister{hash: h, builder: delta.NewBuilder(c)}
	if h == nil || size < apartFrom {
		return l
	}
	l.pieces, l.done = make(chan []byte), make(chan struct{})
	go func() {
		defer close(l.done)
		for p := range l.pieces {
			_, _ = l.builder.Write(p) // it returns nil
			l.done <- struct{}{}
		}
	}()
	return l
}

// close ends the goroutine.
func (l *lister) close() {
	if l.pieces != nil {
		close(l.pieces)
		<-l.done
		l.pieces = nil
	}
}

// list returns the list.
func (l *lister) list() (*delta.List, error) {
	l.close()
	return l.builder.List()
}

// Write takes content.
func (l *lister) Write(p []byte) (int, error) {
	if l.pieces != nil {
		l.pieces <- p
	} else {
		_, _ = l.builder.Write(p) // it returns nil
	}
	if l.hash != nil {
		l.hash.Write(p)
	}
	if l.pieces != nil {
		<-l.done
	}
	return len(p), nil
}

// Zeros implements contentWriter.
func (l *lister) Zeros(ctx context.Context, n int64) error {
	l.builder.Zeros(n) // the goroutine waits
	if l.hash == nil {
		return nil
	}
	return writeZeros(ctx, l.hash, n)
}
