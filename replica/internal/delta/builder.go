package delta

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
)

// Builder makes the list of the content that is written to it, in pieces of
// any size. It takes memory for the list alone. Make one with NewBuilder. A
// Builder is not safe for concurrent use.
type Builder struct {
	cutter cutter
	hash   hash.Hash
	sum    [sha256.Size]byte
	list   List
	// began is the size of the content before the chunk under way.
	began int64
	// spoiled is true once there are too many chunks or bytes.
	spoiled bool
}

// NewBuilder returns a Builder for a list of a class, see ClassOf and
// Class.Keep. Classes beyond MaxClass are taken for it.
func NewBuilder(c Class) *Builder {
	c = min(c, MaxClass)
	return &Builder{cutter: newCutter(c), hash: sha256.New(), list: List{class: c}}
}

// Write takes the next bytes of the content. It never fails, so that it can
// stand beside a hash in an io.MultiWriter: what is wrong, List says.
func (b *Builder) Write(p []byte) (int, error) {
	written := len(p)
	if b.spoiled {
		return written, nil
	}
	for len(p) > 0 {
		n, end := b.cutter.next(p)
		b.hash.Write(p[:n])
		b.list.size += int64(n)
		if end {
			b.end()
		}
		p = p[n:]
	}
	if b.list.size > MaxSize || len(b.list.chunks) > MaxChunks {
		b.spoil()
	}
	return written, nil
}

// Zeros takes n zeros, as Write does. What a hole stands for costs next to nothing
// however large it is: from one border on all its chunks are the same.
func (b *Builder) Zeros(n int64) {
	var zeros [4096]byte
	write := func(n int64) {
		for ; n > 0; n -= int64(len(zeros)) {
			_, _ = b.Write(zeros[:min(n, int64(len(zeros)))]) // it returns nil
		}
	}
	// Two borders are behind as many zeros as the longest chunks have; between
	// them there is nothing else.
	some := min(n, 3*int64(b.list.class.Max()))
	write(some)
	n -= some
	if last := len(b.list.chunks) - 1; n > 0 && last >= 0 {
		// The chunk under way goes on as the last one did, and so do all others.
		c := b.list.chunks[last]
		for ; n >= int64(c.length) && len(b.list.chunks) <= MaxChunks; n -= int64(c.length) {
			b.list.chunks = append(b.list.chunks, c)
			b.list.size += int64(c.length)
			b.began += int64(c.length)
		}
	}
	if n > int64(b.list.class.Max()) {
		b.spoil() // it was before, or there are too many chunks
		return
	}
	write(n)
}

// spoil gives up: there will be no list.
func (b *Builder) spoil() {
	b.spoiled = true
	b.list.chunks = nil
}

// end adds the chunk under way to the list.
func (b *Builder) end() {
	c := chunk{length: uint32(b.list.size - b.began)}
	copy(c.hash[:], b.hash.Sum(b.sum[:0]))
	b.list.chunks = append(b.list.chunks, c)
	b.began = b.list.size
	b.hash.Reset()
}

// List ends the content and returns its list. Nothing may be written
// afterwards but after Reset. Its error is ErrTooManyChunks.
func (b *Builder) List() (*List, error) {
	if !b.spoiled && b.list.size > b.began {
		b.end()
	}
	if b.spoiled || len(b.list.chunks) > MaxChunks {
		return nil, fmt.Errorf("%w: more than %d in class %d", ErrTooManyChunks, MaxChunks, b.list.class)
	}
	l := b.list
	if cap(l.chunks)-len(l.chunks) > len(l.chunks)/16 {
		// It may be kept for long, and is not to keep the room for growing.
		l.chunks = slices.Clone(l.chunks)[:len(l.chunks):len(l.chunks)]
	}
	return &l, nil
}

// Reset makes the Builder as new, for a class, with another list.
func (b *Builder) Reset(c Class) {
	c = min(c, MaxClass)
	b.hash.Reset()
	*b = Builder{cutter: newCutter(c), hash: b.hash, list: List{class: c}}
}
