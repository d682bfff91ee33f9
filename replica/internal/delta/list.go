package delta

import (
	"encoding/binary"
	"fmt"
)

// hashSize is the size of a chunk's hash, SHA-256 cut to 128 bits. Two chunks
// with one hash by chance are not to be expected below 2^64 chunks; whoever
// makes them on purpose spends 2^64 work on having a file sent twice, because
// the digest of the whole is checked after every delta. The other 128 bits
// would cost 80 % more memory for that.
const hashSize = 16

// chunk is one chunk of a list: 20 bytes.
type chunk struct {
	hash   [hashSize]byte
	length uint32
}

const chunkSize = hashSize + 4

// List describes a content by its chunks. It is made by a Builder or by
// DecodeList, and is not changed afterwards, so it may be used concurrently.
// It takes 20 bytes of memory per chunk.
type List struct {
	class  Class
	size   int64
	chunks []chunk
}

// Class returns the class of the list's chunks.
func (l *List) Class() Class { return l.class }

// Size returns the size of the content in bytes.
func (l *List) Size() int64 { return l.size }

// Len returns the number of chunks, 0 for empty content.
func (l *List) Len() int { return len(l.chunks) }

// An encoded list is the class (1 byte), the number of chunks (varint), and
// the chunks: length (varint), hash (16 bytes). Varints are those of
// encoding/binary, as short as possible.

// minEncodedChunk is the size of the shortest encoded chunk.
const minEncodedChunk = 1 + hashSize

// Append appends the encoded list to b: at most 19 bytes per chunk in class 0,
// at most 21 in any.
func (l *List) Append(b []byte) []byte {
	b = append(b, byte(l.class))
	b = binary.AppendUvarint(b, uint64(len(l.chunks)))
	for i := range l.chunks {
		b = binary.AppendUvarint(b, uint64(l.chunks[i].length))
		b = append(b, l.chunks[i].hash[:]...)
	}
	return b
}

// DecodeList decodes a list that Append encoded, and nothing else. What it
// returns is within the limits of this package, and takes at most a fifth more
// memory than b. Its errors are ErrInvalid.
func DecodeList(b []byte) (*List, error) {
	if len(b) == 0 || Class(b[0]) > MaxClass {
		return nil, fmt.Errorf("%w: a chunk list of no known class", ErrInvalid)
	}
	l := &List{class: Class(b[0])}
	n, b, ok := cutUvarint(b[1:])
	if !ok || n > MaxChunks || n > uint64(len(b)/minEncodedChunk) {
		return nil, fmt.Errorf("%w: a chunk list says that it has %d chunks, in %d bytes; at most %d are allowed",
			ErrInvalid, n, len(b), MaxChunks)
	}
	l.chunks = make([]chunk, n)
	for i := range l.chunks {
		length, rest, ok := cutUvarint(b)
		least := uint64(l.class.Min())
		if i == len(l.chunks)-1 {
			least = 1
		}
		if !ok || length < least || length > uint64(l.class.Max()) || len(rest) < hashSize {
			return nil, fmt.Errorf("%w: chunk %d of a chunk list of class %d, of %d bytes", ErrInvalid, i, l.class, length)
		}
		l.chunks[i] = chunk{[hashSize]byte(rest), uint32(length)}
		l.size += int64(length)
		b = rest[hashSize:]
	}
	if len(b) > 0 || l.size > MaxSize {
		return nil, fmt.Errorf("%w: a chunk list for %d bytes, with %d bytes behind it", ErrInvalid, l.size, len(b))
	}
	return l, nil
}

// cutUvarint cuts a varint off b. It does not take one that is longer than it
// needs to be, so that every value has one encoding.
func cutUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
