package delta

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// an edit changes content, of which it may keep nothing.
type edit struct {
	name  string
	apply func(r *rand.Rand, src io.Reader, b []byte) []byte
}

// cut returns a random range of b.
func cut(r *rand.Rand, b []byte) (from, to int) {
	from = r.IntN(len(b) + 1)
	return from, from + r.IntN(min(len(b)-from, 60<<10)+1)
}

var edits = []edit{
	{"insert", func(r *rand.Rand, src io.Reader, b []byte) []byte {
		at := r.IntN(len(b) + 1)
		return slices.Concat(b[:at], random(src, r.IntN(20<<10)), b[at:])
	}},
	{"insert a byte", func(r *rand.Rand, src io.Reader, b []byte) []byte {
		return slices.Insert(b, r.IntN(len(b)+1), byte(r.Uint32()))
	}},
	{"delete", func(r *rand.Rand, _ io.Reader, b []byte) []byte {
		from, to := cut(r, b)
		return slices.Concat(b[:from], b[to:])
	}},
	{"move", func(r *rand.Rand, _ io.Reader, b []byte) []byte {
		from, to := cut(r, b)
		rest := slices.Concat(b[:from], b[to:])
		at := r.IntN(len(rest) + 1)
		return slices.Concat(rest[:at], b[from:to], rest[at:])
	}},
	{"swap halves", func(r *rand.Rand, _ io.Reader, b []byte) []byte {
		at := r.IntN(len(b) + 1)
		return slices.Concat(b[at:], b[:at])
	}},
	{"overwrite", func(r *rand.Rand, src io.Reader, b []byte) []byte {
		from, to := cut(r, b)
		return slices.Concat(b[:from], random(src, to-from), b[to:])
	}},
	{"truncate", func(r *rand.Rand, _ io.Reader, b []byte) []byte { return b[:r.IntN(len(b)+1)] }},
	{"append", func(r *rand.Rand, src io.Reader, b []byte) []byte {
		return slices.Concat(b, random(src, r.IntN(40<<10)))
	}},
	{"repeat", func(r *rand.Rand, _ io.Reader, b []byte) []byte {
		from, to := cut(r, b)
		return slices.Concat(b[:to], bytes.Repeat(b[from:to], r.IntN(5)), b[to:])
	}},
	{"zero", func(r *rand.Rand, _ io.Reader, b []byte) []byte {
		from, to := cut(r, b)
		return slices.Concat(b[:from], make([]byte, to-from), b[to:])
	}},
	{"all zeros", func(r *rand.Rand, _ io.Reader, b []byte) []byte { return make([]byte, r.IntN(len(b)+1)) }},
	{"anew", func(r *rand.Rand, src io.Reader, _ []byte) []byte { return random(src, r.IntN(100<<10)) }},
	{"double", func(_ *rand.Rand, _ io.Reader, b []byte) []byte { return slices.Concat(b, b) }},
	{"empty", func(*rand.Rand, io.Reader, []byte) []byte { return nil }},
}

// overTheWire encodes operations and decodes them.
func overTheWire(t testing.TB, ops []Op) []Op {
	t.Helper()
	var b []byte
	for _, op := range ops {
		b = AppendOp(b, op)
	}
	var got []Op
	var at int64
	for len(b) > 0 {
		op, rest, err := CutOp(b, at)
		if err != nil {
			t.Fatal(err)
		}
		got, b = append(got, op), rest
		at += op.Length
	}
	return got
}

// What a plan makes is the new content, whatever was done to the old one.
func TestPlansMakeTheNewContent(t *testing.T) {
	r, src := seeded(t)
	content := random(src, 200<<10)
	for range 150 {
		next := slices.Clone(content)
		var done []string
		for range 1 + r.IntN(3) {
			e := edits[r.IntN(len(edits))]
			done = append(done, e.name)
			next = e.apply(r, src, next)
		}
		if len(next) > 400<<10 {
			next = next[:400<<10]
		}
		class := Class(r.IntN(2))
		was := listOf(t, class, content)
		if r.IntN(10) == 0 {
			was = listOf(t, 1-class, content)
		}
		ops := Plan(was, listOf(t, class, next))
		checkPlan(t, ops, int64(len(content)), int64(len(next)))
		sent := bytes.NewReader(literalsOf(ops, next))
		var got bytes.Buffer
		if err := apply(&got, section(content), int64(len(next)), overTheWire(t, ops), sent); err != nil {
			t.Fatalf("after %q: %v", done, err)
		}
		if !bytes.Equal(got.Bytes(), next) || sent.Len() > 0 {
			t.Fatalf("after %q of %d bytes another content came out, with %d bytes of literals left", done, len(content), sent.Len())
		}
		content = next
	}
}

func TestPlan(t *testing.T) {
	_, src := seeded(t)
	// Chunks of one content are those of another if it is put together of them.
	content := random(src, 300<<10)
	l := listOf(t, 0, content)
	other := listOf(t, 0, random(src, 100<<10))
	pick := func(from *List, indexes ...int) *List {
		picked := &List{}
		for _, i := range indexes {
			picked.chunks = append(picked.chunks, from.chunks[i])
			picked.size += int64(from.chunks[i].length)
		}
		return picked
	}
	join := func(lists ...*List) *List {
		joined := &List{}
		for _, l := range lists {
			joined.chunks = append(joined.chunks, l.chunks...)
			joined.size += l.size
		}
		return joined
	}
	n := func(indexes ...int) int64 { return pick(l, indexes...).size }
	x := other.size
	for _, c := range []struct {
		name      string
		old, next *List
		want      []Op
	}{
		{"nothing of nothing", nil, &List{}, nil},
		{"nothing of something", l, &List{}, nil},
		{"something of nothing", &List{}, l, []Op{{Literal, 0, l.size}}},
		{"something of nil", nil, l, []Op{{Literal, 0, l.size}}},
		{"the same", l, l, []Op{{Copy, 0, l.size}}},
		{"something else", l, other, []Op{{Literal, 0, x}}},
		{"appended", l, join(l, other), []Op{{Copy, 0, l.size}, {Literal, l.size, x}}},
		{"put before", l, join(other, l), []Op{{Literal, 0, x}, {Copy, 0, l.size}}},
		{"cut off", pick(l, 0, 1, 2, 3), pick(l, 0, 1), []Op{{Copy, 0, n(0, 1)}}},
		{"cut off in front", pick(l, 0, 1, 2, 3), pick(l, 2, 3), []Op{{Copy, n(0, 1), n(2, 3)}}},
		{"cut out", pick(l, 0, 1, 2, 3), pick(l, 0, 3), []Op{{Copy, 0, n(0)}, {Copy, n(0, 1, 2), n(3)}}},
		{"put in the middle", pick(l, 0, 1), join(pick(l, 0), other, pick(l, 1)),
			[]Op{{Copy, 0, n(0)}, {Literal, n(0), x}, {Copy, n(0), n(1)}}},
		{"swapped", pick(l, 0, 1, 2), pick(l, 1, 2, 0), []Op{{Copy, n(0), n(1, 2)}, {Copy, 0, n(0)}}},
		{"repeated", pick(l, 0, 1), pick(l, 0, 1, 0, 1), []Op{{Copy, 0, n(0, 1)}, {Copy, 0, n(0, 1)}}},
		{"a copy goes on through repetitions", pick(l, 0, 1, 0, 2, 0, 3), join(other, pick(l, 1, 0, 2, 0, 3), other),
			[]Op{{Literal, 0, x}, {Copy, n(0), n(1, 0, 2, 0, 3)}, {Literal, x + n(1, 0, 2, 0, 3), x}}},
		{"the end overlaps the beginning", pick(l, 0, 0, 0), pick(l, 0, 0), []Op{{Copy, 0, n(0, 0)}}},
		{"the beginning grows", pick(l, 0, 0), pick(l, 0, 0, 0), []Op{{Copy, 0, n(0, 0)}, {Copy, 0, n(0)}}},
	} {
		if got := Plan(c.old, c.next); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Where hashes are equal and lengths are not, one of them lies.
func TestPlanBelievesNoHashAlone(t *testing.T) {
	old := &List{size: 3000, chunks: []chunk{{length: 3000}}}
	next := &List{size: 9000, chunks: []chunk{{length: 9000}}}
	if got, want := Plan(old, next), []Op{{Literal, 0, 9000}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// An edit costs the chunks it touches and few behind it, however large the
// content.
func TestSmallEditsAreCheap(t *testing.T) {
	r, src := seeded(t)
	insert := func(b []byte, at int) []byte { return slices.Concat(b[:at], random(src, 100), b[at:]) }
	change := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[at]++
		return b
	}
	cost := func(edit func([]byte, int) []byte, content []byte, was *List, at int) int64 {
		l := listOf(t, 0, edit(content, at))
		ops := Plan(was, l)
		checkPlan(t, ops, was.Size(), l.Size())
		return literalBytes(ops)
	}
	large := random(src, 64<<20)
	// One insertion in a thousand costs 48 KB, and ten times fewer for every 20 KB.
	if n := cost(insert, large, listOf(t, 0, large), len(large)/2); n > 160<<10 {
		t.Errorf("100 bytes inserted in the middle: %d bytes of literals", n)
	}
	small := large[:256<<10]
	was := listOf(t, 0, small)
	for _, edit := range []func([]byte, int) []byte{insert, change} {
		for _, at := range []int{0, 1, len(small) - 1} {
			if n := cost(edit, small, was, at); n > 160<<10 {
				t.Errorf("an edit at %d: %d bytes of literals", at, n)
			}
		}
		var sum int64
		const times = 64
		for range times {
			sum += cost(edit, small, was, r.IntN(len(small)))
		}
		t.Logf("%d bytes of literals on average", sum/times)
		if sum/times > 2*8192 {
			t.Errorf("%d bytes of literals on average, want about a chunk of 8192", sum/times)
		}
	}
}

// Zeros are copied however many of them there were: chunks repeat.
func TestZerosAreCopied(t *testing.T) {
	was := listOf(t, 0, make([]byte, 10<<20))
	l := listOf(t, 0, make([]byte, 15<<20+1))
	ops := Plan(was, l)
	checkPlan(t, ops, was.Size(), l.Size())
	if n := literalBytes(ops); n > int64(l.Class().Max()) {
		t.Errorf("%d bytes of literals", n)
	}
}

// Plans of any two lists are within their contents.
func FuzzPlan(f *testing.F) {
	f.Add(encoded(0, 2, []uint64{4096, 1}), encoded(0, 3, []uint64{4096, 4096, 1}))
	f.Add(encoded(1, 2, []uint64{8192, 1}), encoded(0, 1, []uint64{8192}))
	f.Add(encoded(0, 0, nil), encoded(0, 5, []uint64{4096, 5000, 4096, 5000, 7}))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		old, err := DecodeList(a)
		if err != nil {
			return
		}
		next, err := DecodeList(b)
		if err != nil {
			return
		}
		ops := Plan(old, next)
		checkPlan(t, ops, old.Size(), next.Size())
		if !slices.Equal(overTheWire(t, ops), ops) {
			t.Fatal("operations are decoded otherwise")
		}
	})
}
