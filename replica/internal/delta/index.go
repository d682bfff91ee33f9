package delta

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// place is where a chunk stands in the old content.
type place struct {
	index  int // -1: nowhere
	offset int64
}

// index knows for each of some chunks where it stands first. It is a hash table
// with open addressing: a map would take three
// times the memory and four times the time.
type index struct {
	chunks []chunk
	places []place  // of chunks; of equal ones, the first chunk's counts
	slots  []uint32 // number of a chunk, plus 1; a power of two of them
	factor uint64
	shift  int
}

// newIndex returns an index of chunks that stand nowhere yet.
func newIndex(chunks []chunk) *index {
	size := bits.Len(uint(len(chunks))) + 1 // between half and a quarter is used
	x := &index{
		chunks: chunks,
		places: make([]place, len(chunks)),
		slots:  make([]uint32, 1<<size),
		// Nobody can choose chunks that get into each other's way, since nobody
		// knows it.
		factor: rand.Uint64() | 1,
		shift:  64 - size,
	}
	for i, c := range chunks {
		x.places[i].index = -1
		if slot := x.slot(c); *slot == 0 {
			*slot = uint32(i) + 1
		}
	}
	return x
}

// slot returns where a chunk is in slots, or would be.
func (x *index) slot(c chunk) *uint32 {
	at := binary.LittleEndian.Uint64(c.hash[:]) * x.factor >> x.shift
	for {
		slot := &x.slots[at]
		if *slot == 0 || x.chunks[*slot-1] == c {
			return slot
		}
		at = (at + 1) % uint64(len(x.slots))
	}
}

// of returns the place of a chunk, nil if it is not in the index.
func (x *index) of(c chunk) *place {
	slot := *x.slot(c)
	if slot == 0 {
		return nil
	}
	return &x.places[slot-1]
}

// find looks up where the chunks stand in an old content.
func (x *index) find(old []chunk) {
	var offset int64
	for i, c := range old {
		if p := x.of(c); p != nil && p.index < 0 {
			*p = place{i, offset}
		}
		offset += int64(c.length)
	}
}
