package delta

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

// What hostile or broken steps do is limited, whatever they say.
func TestCheckerRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64
		ops  []Op // all but the last are right
	}{
		{"no kind", 10, []Op{{0, 0, 10}}},
		{"unknown kind", 10, []Op{{3, 0, 10}}},
		{"empty copy", 10, []Op{{Copy, 0, 0}}},
		{"empty literal", 10, []Op{{Literal, 0, 0}}},
		{"negative length", 10, []Op{{Copy, 0, -1}}},
		{"negative literal", 10, []Op{{Literal, 0, -1}}},
		{"negative offset", 10, []Op{{Copy, -1, 10}}},
		{"the smallest numbers", 10, []Op{{Copy, math.MinInt64, math.MinInt64}}},
		{"the smallest literal", 10, []Op{{Literal, 0, math.MinInt64}}},
		{"beyond the old content", 2000, []Op{{Copy, 0, 1001}}},
		{"beyond the old content by its offset", 2000, []Op{{Copy, 1000, 1}}},
		{"far beyond the old content", 2000, []Op{{Copy, MaxSize - 1, 1}}},
		{"an end that overflows", math.MaxInt64, []Op{{Copy, math.MaxInt64, math.MaxInt64}}},
		{"an end that overflows to zero", math.MaxInt64, []Op{{Copy, math.MaxInt64, 1}}},
		{"literals that overflow", math.MaxInt64, []Op{{Literal, 0, 1}, {Literal, 1, math.MaxInt64}}},
		{"copy of more than announced", 10, []Op{{Copy, 0, 11}}},
		{"literal of more than announced", 10, []Op{{Literal, 0, 11}}},
		{"one more than announced", 10, []Op{{Copy, 0, 10}, {Literal, 10, 1}}},
		{"something for a negative size", -1, []Op{{Copy, 0, 1}}},
	} {
		k := NewChecker(1000, c.size)
		for i, op := range c.ops {
			err, made := take(k, op), k.Made()
			if last := i == len(c.ops)-1; errors.Is(err, ErrInvalid) != last {
				t.Errorf("%s, operation %d: %v, after %d bytes", c.name, i, err, made)
			}
		}
		if k.Done() != (k.Made() == c.size) {
			t.Errorf("%s: done after %d of %d bytes", c.name, k.Made(), c.size)
		}
	}
	if err := NewChecker(10, 10).Copy(Op{Literal, 0, 10}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a literal as a copy: %v", err)
	}
}

// take takes an operation of either kind.
func take(k *Checker, op Op) error {
	if op.Kind == Literal {
		return k.Literal(op.Length)
	}
	return k.Copy(op)
}

func TestCheckerEndsTinyCopies(t *testing.T) {
	k := NewChecker(1, MaxSize)
	n := 0
	var err error
	for ; err == nil && n < 1000; n++ {
		// That literals of a byte stand between them makes no difference.
		if err = k.Copy(Op{Copy, 0, 1}); err == nil {
			err = k.Literal(1)
		}
	}
	if !errors.Is(err, ErrInvalid) || n > 100 {
		t.Errorf("%d copies of a byte: %v", n, err)
	}
	// Nor are there ever more than a list has chunks.
	k = NewChecker(MaxSize, MaxSize)
	for range MaxChunks {
		if err := k.Copy(Op{Copy, 0, 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Copy(Op{Copy, 0, 1 << 20}); !errors.Is(err, ErrInvalid) {
		t.Errorf("one copy more than the most: %v", err)
	}
}

// Even a plan in which no two chunks are neighbours passes, and one for content
// that is cut as often as possible.
func TestCheckerTakesTheWorstPlan(t *testing.T) {
	k := NewChecker(MaxSize, MaxSize)
	for i := range int64(MaxChunks) {
		op := Op{Copy, 0, minChunk}
		if i%4 == 1 {
			op = Op{Literal, k.Made(), minChunk}
		}
		if err := take(k, op); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever is sent as operations, what a Checker lets pass stays within both
// contents.
func FuzzChecker(f *testing.F) {
	f.Add([]byte("old content"), int64(6), AppendOp(AppendOp(nil, Op{Copy, 4, 3}), Op{Literal, 3, 3}), []byte("new"))
	f.Add([]byte("x"), int64(200), bytes.Repeat(AppendOp(nil, Op{Copy, 0, 1}), 200), []byte{})
	f.Add([]byte{}, int64(-1), []byte{1, 1, 1}, []byte{})
	f.Fuzz(func(t *testing.T, old []byte, size int64, rest, literals []byte) {
		k := NewChecker(int64(len(old)), size)
		var got []byte
		for len(rest) > 0 {
			op, r, err := CutOp(rest, k.Made())
			if err != nil {
				return
			}
			rest = r
			if op.Kind == Literal && op.Length > int64(len(literals)) || take(k, op) != nil {
				return
			}
			// It passed, so it can be done.
			if op.Kind == Copy {
				got = append(got, old[op.Offset:op.Offset+op.Length]...)
			} else {
				got, literals = append(got, literals[:op.Length]...), literals[op.Length:]
			}
			if int64(len(got)) != k.Made() || k.Made() > size || k.Done() != (k.Made() == size) {
				t.Fatalf("%d bytes made, %d counted, %d announced", len(got), k.Made(), size)
			}
		}
	})
}
