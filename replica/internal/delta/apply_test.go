package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

// What hostile or broken operations do is limited, whatever they say.
func TestApplyRefuses(t *testing.T) {
	old := bytes.Repeat([]byte("o"), 1000)
	for _, c := range []struct {
		name string
		size int64
		ops  []Op
		made int // bytes that may be written before
	}{
		{"no kind", 10, []Op{{0, 0, 10}}, 0},
		{"unknown kind", 10, []Op{{3, 0, 10}}, 0},
		{"empty copy", 10, []Op{{Copy, 0, 0}}, 0},
		{"empty literal", 10, []Op{{Literal, 0, 0}}, 0},
		{"negative length", 10, []Op{{Copy, 0, -1}}, 0},
		{"negative offset", 10, []Op{{Copy, -1, 10}}, 0},
		{"the smallest numbers", 10, []Op{{Copy, math.MinInt64, math.MinInt64}}, 0},
		{"beyond the old content", 2000, []Op{{Copy, 0, 1001}}, 0},
		{"beyond the old content by its offset", 2000, []Op{{Copy, 1000, 1}}, 0},
		{"far beyond the old content", 2000, []Op{{Copy, MaxSize - 1, 1}}, 0},
		{"an end that overflows", math.MaxInt64, []Op{{Copy, math.MaxInt64, math.MaxInt64}}, 0},
		{"an end that overflows to zero", math.MaxInt64, []Op{{Copy, math.MaxInt64, 1}}, 0},
		{"a literal that overflows", math.MaxInt64, []Op{{Literal, 0, math.MaxInt64}}, 0},
		{"copy of more than announced", 10, []Op{{Copy, 0, 11}}, 0},
		{"literal of more than announced", 10, []Op{{Literal, 0, 11}}, 0},
		{"one more than announced", 10, []Op{{Copy, 0, 10}, {Literal, 10, 1}}, 10},
		{"fewer than announced", 10, []Op{{Copy, 0, 9}}, 9},
		{"none", 10, nil, 0},
		{"a negative size", -1, nil, 0},
		{"something for a negative size", -1, []Op{{Copy, 0, 1}}, 0},
		{"a literal for another place", 10, []Op{{Copy, 0, 5}, {Literal, 6, 4}}, 5},
	} {
		var a Applier
		var got bytes.Buffer
		err := a.Apply(t.Context(), &got, section(old), c.size, all(c.ops), strings.NewReader("literals"))
		if !errors.Is(err, ErrInvalid) || got.Len() != c.made {
			t.Errorf("%s: %v, after %d bytes", c.name, err, got.Len())
		}
	}
}

// endless yields one-byte copies for ever, and counts them.
func endless(n *int) iter.Seq2[Op, error] {
	return func(yield func(Op, error) bool) {
		for *n = 1; yield(Op{Copy, 0, 1}, nil); *n++ {
		}
	}
}

func TestApplyEndsTinyOperations(t *testing.T) {
	var a Applier
	var n int
	err := a.Apply(t.Context(), io.Discard, section([]byte("x")), MaxSize, endless(&n), nil)
	if !errors.Is(err, ErrInvalid) || n > 100 {
		t.Errorf("%d operations of a byte: %v", n, err)
	}
	// Nor are there ever more than a list has chunks.
	p := progress{old: MaxSize, size: MaxSize}
	for range MaxChunks {
		if err := p.take(Op{Copy, 0, 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.take(Op{Copy, 0, 1 << 20}); !errors.Is(err, ErrInvalid) {
		t.Errorf("one operation more than the most: %v", err)
	}
}

// Even a plan in which no two chunks are neighbours passes, and one for content
// that is cut as often as possible.
func TestApplyTakesTheWorstPlan(t *testing.T) {
	p := progress{old: MaxSize, size: MaxSize}
	for i := range int64(MaxChunks) {
		op := Op{Copy, 0, minChunk}
		if i%2 == 1 {
			op = Op{Literal, p.made, minChunk}
		}
		if err := p.take(op); err != nil {
			t.Fatal(err)
		}
	}
}

// It does not ask for more operations or literals than it needs.
func TestApplyInterleaved(t *testing.T) {
	stream := strings.NewReader("abcdefgh")
	ops := func(yield func(Op, error) bool) {
		for i, op := range []Op{{Literal, 0, 3}, {Copy, 4, 2}, {Literal, 5, 4}} {
			if want := []int{8, 5, 5}[i]; stream.Len() != want {
				t.Errorf("before operation %d, %d bytes of literals are left, want %d", i, stream.Len(), want)
			}
			if !yield(op, nil) {
				return
			}
		}
	}
	var a Applier
	var got bytes.Buffer
	if err := a.Apply(t.Context(), &got, section([]byte("012345")), 9, ops, iotest.OneByteReader(stream)); err != nil {
		t.Fatal(err)
	}
	if got.String() != "abc45defg" || stream.Len() != 1 {
		t.Errorf("%q, with %d bytes left", got.String(), stream.Len())
	}
}

func TestApplyLargeOperations(t *testing.T) {
	_, src := seeded(t)
	old := random(src, 3*bufferSize+17)
	lit := random(src, 2*bufferSize+1)
	var a Applier
	for range 2 { // with a new buffer, then with that one again
		var got bytes.Buffer
		ops := []Op{{Copy, 5, int64(len(old)) - 5}, {Literal, int64(len(old)) - 5, int64(len(lit))}, {Copy, 0, 5}}
		if err := a.Apply(t.Context(), &got, section(old), int64(len(old)+len(lit)), all(ops), bytes.NewReader(lit)); err != nil {
			t.Fatal(err)
		}
		if want := string(old[5:]) + string(lit) + string(old[:5]); got.String() != want {
			t.Error("another content came out")
		}
	}
	if n := testing.AllocsPerRun(10, func() {
		_ = a.Apply(t.Context(), io.Discard, section(old), int64(len(old)), all([]Op{{Copy, 0, int64(len(old))}}), nil)
	}); n > 10 {
		t.Errorf("%v allocations with a used Applier", n)
	}
}

func TestApplyPassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	// It has become shorter since it was opened.
	short := io.NewSectionReader(strings.NewReader("short"), 0, 10)
	for _, c := range []struct {
		name     string
		dst      io.Writer
		old      *io.SectionReader
		ops      iter.Seq2[Op, error]
		literals io.Reader
		want     error
	}{
		{"operations", io.Discard, short, func(yield func(Op, error) bool) { yield(Op{}, broken) }, nil, broken},
		{"literals", io.Discard, short, all([]Op{{Literal, 0, 10}}), iotest.ErrReader(broken), broken},
		{"literals end early", io.Discard, short, all([]Op{{Literal, 0, 10}}), strings.NewReader("a"), io.ErrUnexpectedEOF},
		{"literals end at once", io.Discard, short, all([]Op{{Literal, 0, 10}}), strings.NewReader(""), io.ErrUnexpectedEOF},
		{"old content ends early", io.Discard, short, all([]Op{{Copy, 0, 10}}), nil, io.ErrUnexpectedEOF},
		{"old content", io.Discard, io.NewSectionReader(brokenAt{broken}, 0, 10), all([]Op{{Copy, 0, 10}}), nil, broken},
		{"destination", brokenAt{broken}, short, all([]Op{{Copy, 0, 5}}), nil, broken},
	} {
		var a Applier
		if err := a.Apply(t.Context(), c.dst, c.old, 10, c.ops, c.literals); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// brokenAt fails whatever is done with it.
type brokenAt struct{ err error }

func (b brokenAt) ReadAt([]byte, int64) (int, error) { return 0, b.err }
func (b brokenAt) Write([]byte) (int, error)         { return 0, b.err }

func TestApplyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	var written int
	dst := writer(func(p []byte) (int, error) {
		written += len(p)
		cancel(stop)
		return len(p), nil
	})
	var a Applier
	err := a.Apply(ctx, dst, section(make([]byte, 10*bufferSize)), 10*bufferSize, all([]Op{{Copy, 0, 10 * bufferSize}}), nil)
	if !errors.Is(err, stop) || written != bufferSize {
		t.Errorf("%v, after %d bytes", err, written)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// Whatever is sent as operations, Apply makes what it should or fails, and
// never writes more than was announced.
func FuzzApply(f *testing.F) {
	f.Add([]byte("old content"), int64(6), AppendOp(AppendOp(nil, Op{Copy, 4, 3}), Op{Literal, 3, 3}), []byte("new"))
	f.Add([]byte("x"), int64(200), bytes.Repeat(AppendOp(nil, Op{Copy, 0, 1}), 200), []byte{})
	f.Add([]byte{}, int64(-1), []byte{1, 1, 1}, []byte{})
	f.Fuzz(func(t *testing.T, old []byte, size int64, encoded, literals []byte) {
		var want []byte
		rest, sent := encoded, literals
		ops := func(yield func(Op, error) bool) {
			var at int64
			for len(rest) > 0 {
				op, r, err := CutOp(rest, at)
				if !yield(op, err) {
					return
				}
				// It was done, so it can be done here.
				if op.Kind == Copy {
					want = append(want, old[op.Offset:op.Offset+op.Length]...)
				} else {
					want, sent = append(want, sent[:op.Length]...), sent[op.Length:]
				}
				rest = r
				at += op.Length
			}
		}
		var a Applier
		var got bytes.Buffer
		err := a.Apply(t.Context(), &got, section(old), size, ops, bytes.NewReader(literals))
		if int64(got.Len()) > max(size, 0) {
			t.Fatalf("%d bytes written, %d announced", got.Len(), size)
		}
		if err == nil && (int64(got.Len()) != size || !bytes.Equal(got.Bytes(), want)) {
			t.Fatalf("wrote %q, want %q of %d bytes", got.Bytes(), want, size)
		}
	})
}
