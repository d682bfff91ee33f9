package delta

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestClassOf(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		size int64
		want Class
	}{
		{0, 0}, {1, 0}, {gib, 0}, {gib + 1, 1}, {2 * gib, 1}, {2*gib + 1, 2}, {4 * gib, 2},
		{MaxSize - 1, 14}, {MaxSize, 14}, {MaxSize + 1, 14}, {1<<63 - 1, 14},
	} {
		if got := ClassOf(c.size); got != c.want {
			t.Errorf("ClassOf(%d) = %d, want %d", c.size, got, c.want)
		}
	}
	for c := range MaxClass + 1 {
		largest := int64(1<<30) << c
		if n := largest / int64(c.Average()); n != 131072 {
			t.Errorf("class %d: %d chunks on average", c, n)
		}
		if n := 2 * largest / int64(c.Min()); n > MaxChunks {
			t.Errorf("class %d: content of twice its size may have %d chunks, more than %d", c, n, MaxChunks)
		}
	}
}

func TestClassIsKeptNearItsBorders(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		was  Class
		size int64
		want Class
	}{
		{0, 10, 0}, {0, 2 * gib, 0}, {0, 2*gib + 1, 2}, {1, 10, 1}, {2, 2 * gib, 2}, {2, gib, 0}, {3, 10, 0},
		{14, MaxSize, 14}, {15, MaxSize, 14}, {13, MaxSize, 13}, {255, 0, 0},
	} {
		if got := c.was.Keep(c.size); got != c.want {
			t.Errorf("Class(%d).Keep(%d) = %d, want %d", c.was, c.size, got, c.want)
		}
	}
}

// slowly cuts content by the rules, one byte after another.
func slowly(c Class, content []byte) (lengths []int) {
	for len(content) > 0 {
		n := min(len(content), c.Max())
		for i := c.Min(); i < n; i++ {
			var h uint64
			for _, b := range content[i-window : i] {
				h = h*2 + gear[b]
			}
			expected := uint64(c.Average()) // one border in so many bytes
			if i > c.Average() {
				expected = uint64(c.Average()) / 4
			}
			if h < 1<<63/(expected/2) {
				n = i
				break
			}
		}
		lengths = append(lengths, n)
		content = content[n:]
	}
	return lengths
}

// Also where content comes in pieces of any size, down to single bytes.
func TestChunksAreCutByTheRules(t *testing.T) {
	r, src := seeded(t)
	contents := [][]byte{nil, {1}, random(src, 4095), random(src, 4096), random(src, 4097), random(src, 150<<10), make([]byte, 100<<10),
		bytes.Repeat(random(src, 100), 1000), append(make([]byte, 50<<10), random(src, 50<<10)...)}
	for i, content := range contents {
		for _, class := range []Class{0, 1, 3} {
			b := NewBuilder(class)
			for rest := content; len(rest) > 0; {
				n := min(len(rest), 1+r.IntN([]int{1, 70, 3000, 100 << 10}[r.IntN(4)]))
				b.Write(rest[:n])
				rest = rest[n:]
			}
			l, err := b.List()
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			at := 0
			for _, c := range l.chunks {
				got = append(got, int(c.length))
				sum := sha256.Sum256(content[at : at+int(c.length)])
				if !bytes.Equal(c.hash[:], sum[:hashSize]) {
					t.Errorf("content %d, class %d: the chunk at %d has the wrong hash", i, class, at)
				}
				at += int(c.length)
			}
			if want := slowly(class, content); !slices.Equal(got, want) {
				t.Errorf("content %d, class %d: chunks of %v, want %v", i, class, got, want)
			}
			if l.Size() != int64(len(content)) || l.Class() != class || l.Len() != len(got) {
				t.Errorf("content %d, class %d: list of class %d for %d bytes", i, class, l.Class(), l.Size())
			}
		}
	}
}

func TestChunkSizes(t *testing.T) {
	_, src := seeded(t)
	content := random(src, 16<<20)
	for _, class := range []Class{0, 2} {
		l := listOf(t, class, content)
		forced := 0
		for i, c := range l.chunks {
			if int(c.length) > class.Max() || int(c.length) < class.Min() && i < l.Len()-1 {
				t.Fatalf("class %d: chunk of %d bytes", class, c.length)
			}
			if int(c.length) == class.Max() {
				forced++
			}
		}
		mean := len(content) / l.Len()
		t.Logf("class %d: %d chunks of %d bytes on average, %d of the maximum", class, l.Len(), mean, forced)
		// A list has at most as many chunks as its class promises, about.
		if mean < class.Average()*15/16 || mean > class.Average()*5/4 {
			t.Errorf("class %d: chunks have %d bytes, want about %d", class, mean, class.Average())
		}
		if forced > 3 { // one in 150,000 is to be expected
			t.Errorf("class %d: %d of %d chunks are cut at the maximum", class, forced, l.Len())
		}
	}
}

// What consists of one byte value alone is cut into the fewest chunks.
func TestConstantContentHasLongChunks(t *testing.T) {
	for value := range 256 {
		c := newCutter(0)
		if n, _ := c.next(bytes.Repeat([]byte{byte(value)}, c.last)); n != c.last {
			t.Errorf("%d bytes of value %d are cut off", n, value)
		}
	}
}

// Lists outlive the program that made them: borders and encoding stay as they
// are, or need another format.
func TestListsStayAsTheyAre(t *testing.T) {
	content := random(rand.NewChaCha8([32]byte{1}), 1<<20)
	sum := sha256.Sum256(listOf(t, 0, content).Append(nil))
	const want = "4fae49b566b774e004ed5d75600175d8d0c2bbf1ccba952e01395ae20375386d"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("the list of a fixed content has changed: its SHA-256 is %s, was %s", got, want)
	}
}

func TestBuilderReset(t *testing.T) {
	_, src := seeded(t)
	content := random(src, 100<<10)
	b := NewBuilder(3)
	b.Write(content[:33])
	b.Reset(0)
	b.Write(content)
	first, err := b.List()
	if err != nil {
		t.Fatal(err)
	}
	want := listOf(t, 0, content).Append(nil)
	if !bytes.Equal(first.Append(nil), want) {
		t.Error("after Reset another list comes out")
	}
	b.Reset(0)
	b.Write(random(src, 100<<10))
	if _, err := b.List(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Append(nil), want) {
		t.Error("a list changed when its builder was used again")
	}
	if c := NewBuilder(200).list.class; c != MaxClass {
		t.Errorf("class 200 is %d", c)
	}
}

// hostile returns content of n chunks of the minimum size in class 0, block by
// block.
func hostile(t *testing.T) []byte {
	_, src := seeded(t)
	block := random(src, minChunk)
	cut := newCutter(0)
	for {
		end := block[minChunk-window:]
		src.Read(end)
		if _, h, _ := roll(end, 0, 0); h < cut.early {
			return block
		}
	}
}

// Content that is made to be cut as often as possible takes no more memory than
// the limit, and says so.
func TestTooManyChunks(t *testing.T) {
	blocks := bytes.Repeat(hostile(t), 512)
	b := NewBuilder(0)
	for range MaxChunks / 512 {
		b.Write(blocks)
	}
	if b.Write(nil); b.spoiled || len(b.list.chunks) != MaxChunks {
		t.Fatalf("after %d chunks: %d", MaxChunks, len(b.list.chunks))
	}
	if l, err := b.List(); err != nil || l.Len() != MaxChunks {
		t.Fatalf("a list of %d chunks: %v", MaxChunks, err)
	}
	b.Write([]byte{1})
	if _, err := b.List(); !errors.Is(err, ErrTooManyChunks) {
		t.Errorf("one chunk more, at the end: %v", err)
	}
	b.Write(blocks)
	if n, err := b.Write(blocks); n != len(blocks) || err != nil {
		t.Errorf("Write beyond the limit: %d, %v", n, err)
	}
	if _, err := b.List(); !errors.Is(err, ErrTooManyChunks) || b.list.chunks != nil {
		t.Errorf("many chunks more: %v, %d chunks kept", err, len(b.list.chunks))
	}
	b.Reset(0)
	b.Write(blocks[:1])
	if l, err := b.List(); err != nil || l.Size() != 1 {
		t.Errorf("after Reset: %v", err)
	}
}

// Zeros are the same as so many written ones, whatever stands before and behind.
func TestZerosAreWrittenZeros(t *testing.T) {
	r, src := seeded(t)
	for range 60 {
		class := Class(r.IntN(3))
		written, told := NewBuilder(class), NewBuilder(class)
		for range 1 + r.IntN(4) {
			some := random(src, r.IntN(r.IntN(4*class.Max())+1))
			if r.IntN(3) == 0 {
				clear(some)
			}
			n := r.IntN(r.IntN(20*class.Max()) + 1)
			_, _ = written.Write(some)
			_, _ = written.Write(make([]byte, n))
			_, _ = told.Write(some)
			told.Zeros(int64(n))
		}
		want, err := written.List()
		if err != nil {
			t.Fatal(err)
		}
		got, err := told.List()
		if err != nil || got.Size() != want.Size() || !slices.Equal(got.chunks, want.chunks) {
			t.Fatalf("class %d: a list of %d chunks for %d bytes, %v, want %d for %d", class, got.Len(), got.Size(), err, want.Len(), want.Size())
		}
	}
}

func TestTooManyZerosSpoilAList(t *testing.T) {
	b := NewBuilder(0)
	b.Zeros(MaxSize)
	if _, err := b.List(); !errors.Is(err, ErrTooManyChunks) {
		t.Errorf("a list of the lowest class for the largest content: %v", err)
	}
	b.Zeros(MaxSize) // nor does it take long
	if _, err := b.List(); !errors.Is(err, ErrTooManyChunks) {
		t.Errorf("and then: %v", err)
	}
}
