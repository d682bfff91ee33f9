package delta

import "math/bits"

const (
	// MaxSize is the size in bytes of the largest content that this package
	// handles: 16 TiB.
	MaxSize = 1 << 44
	// MaxChunks is the largest number of chunks in a list. Usual content of its
	// own class has a quarter of it at most, and even content that was made to be
	// cut as often as possible does not have more, up to twice its class.
	MaxChunks = 1 << 19

	minAverageBits = 13 // 8 KiB
	classZeroBits  = 30 // 1 GiB, 131,072 times as much
	// minChunk is the minimum size in the lowest class: no list has a shorter
	// chunk, except as its last one.
	minChunk = 1 << (minAverageBits - 1)
)

// Class says how large the chunks of a list are. Contents have chunks in
// common only if their lists are of one class. The zero value is the class of
// content up to 1 GiB; each further one is for twice the size.
type Class uint8

// MaxClass is the class of content of MaxSize bytes.
const MaxClass Class = 14

// ClassOf returns the class for content of a size in bytes, such that its list
// has at most about 131,072 chunks. Sizes beyond MaxSize have class MaxClass.
func ClassOf(size int64) Class {
	if size <= 1<<classZeroBits {
		return 0
	}
	return min(Class(bits.Len64(uint64(size-1))-classZeroBits), MaxClass)
}

// Keep returns the class for a content of a size in bytes whose earlier version
// has a list of class c: c itself if it is not off by more than one, so that a
// file that grows a little beyond a border is not sent whole; else ClassOf(size).
func (c Class) Keep(size int64) Class {
	best := ClassOf(size)
	if c <= MaxClass && c+1 >= best && c <= best+1 {
		return c
	}
	return best
}

// Average is about the size of chunks in bytes, for content without
// repetitions.
func (c Class) Average() int { return 1 << (minAverageBits + c) }

// Min is the size in bytes that all chunks have at least, except the last one.
func (c Class) Min() int { return c.Average() / 2 }

// Max is the size in bytes that chunks have at most.
func (c Class) Max() int { return c.Average() * 4 }
