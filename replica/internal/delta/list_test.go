package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
)

func TestListEncoding(t *testing.T) {
	_, src := seeded(t)
	for _, class := range []Class{0, 1, 5, MaxClass} {
		for _, size := range []int{0, 1, 5000, 400 << 10} {
			l := listOf(t, class, random(src, size))
			b := l.Append([]byte("x"))
			if most := 1 + 1 + 3 + l.Len()*21; len(b) > most {
				t.Errorf("class %d, %d bytes: encoded as %d bytes, more than %d", class, size, len(b), most)
			}
			got, err := DecodeList(b[1:])
			if err != nil {
				t.Fatalf("class %d, %d bytes: %v", class, size, err)
			}
			if got.Size() != l.Size() || got.Class() != class || got.Len() != l.Len() || !bytes.Equal(got.Append(nil), b[1:]) {
				t.Errorf("class %d, %d bytes: decoded as another list", class, size)
			}
		}
	}
}

// encoded returns an encoded list of chunks of given lengths, and what follows.
func encoded(class byte, count uint64, lengths []uint64, more ...byte) []byte {
	b := binary.AppendUvarint([]byte{class}, count)
	for _, n := range lengths {
		b = append(binary.AppendUvarint(b, n), make([]byte, hashSize)...)
	}
	return append(b, more...)
}

func TestDecodeListLimits(t *testing.T) {
	huge := make([]uint64, 1<<15) // 2^15 chunks of 2^29 bytes are 2^44
	for i := range huge {
		huge[i] = 1 << 29
	}
	many := make([]uint64, MaxChunks+1)
	for i := range many {
		many[i] = minChunk
	}
	for _, c := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"nothing", nil, false},
		{"empty", encoded(0, 0, nil), true},
		{"class alone", []byte{0}, false},
		{"unknown class", encoded(15, 0, nil), false},
		{"bytes behind", encoded(0, 0, nil, 0), false},
		{"a short last chunk", encoded(0, 2, []uint64{4096, 1}), true},
		{"a short first chunk", encoded(0, 2, []uint64{4095, 4096}), false},
		{"an empty last chunk", encoded(0, 1, []uint64{0}), false},
		{"the largest", encoded(0, 1, []uint64{32 << 10}), true},
		{"too large", encoded(0, 1, []uint64{32<<10 + 1}), false},
		{"too large for 32 bits", encoded(14, 1, []uint64{1<<32 + 1<<26}), false},
		{"fewer than announced", encoded(0, 2, []uint64{4096}), false},
		{"more than announced", encoded(0, 1, []uint64{4096, 4096}), false},
		{"cut off", encoded(0, 1, []uint64{4096})[:18], false},
		{"a count in more bytes than needed", append([]byte{0, 0x80, 0}, encoded(0, 0, nil)[2:]...), false},
		{"an overflowing count", append([]byte{0}, bytes.Repeat([]byte{0xff}, 11)...), false},
		{"endless by its count", encoded(0, 1<<40, []uint64{4096}), false},
		{"as many chunks as allowed", encoded(0, MaxChunks, many[1:]), true},
		{"more chunks than allowed", encoded(0, MaxChunks+1, many), false},
		{"as large as allowed", encoded(14, uint64(len(huge)), huge), true},
		{"larger than allowed", encoded(14, uint64(len(huge)+1), append(huge, 1)), false},
	} {
		l, err := DecodeList(c.b)
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, ErrInvalid) || l != nil) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A list that claims to be large costs nothing before it is.
func TestDecodeListAllocatesForWhatIsThere(t *testing.T) {
	b := encoded(0, MaxChunks, []uint64{4096})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	l, err := DecodeList(b)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 || l != nil || err == nil {
		t.Errorf("%d bytes allocated for a list of %d bytes: %v", n, len(b), err)
	}
}

// What can be decoded encodes to the same bytes, and is within the limits.
func FuzzDecodeList(f *testing.F) {
	f.Add(encoded(0, 0, nil))
	f.Add(encoded(0, 2, []uint64{4096, 1}))
	f.Add(encoded(14, 3, []uint64{1 << 25, 1 << 29, 7}))
	f.Add(encoded(3, 200, nil, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := DecodeList(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(l.Append(nil), b) {
			t.Fatal("the list encodes otherwise")
		}
		var size int64
		for i, c := range l.chunks {
			if int(c.length) > l.class.Max() || c.length == 0 || int(c.length) < l.class.Min() && i < l.Len()-1 {
				t.Fatalf("chunk of %d bytes in class %d", c.length, l.class)
			}
			size += int64(c.length)
		}
		if size != l.Size() || size > MaxSize || l.Len() > MaxChunks {
			t.Fatalf("%d chunks, %d bytes, said to be %d", l.Len(), size, l.Size())
		}
		checkPlan(t, Plan(nil, l), 0, size)
	})
}
