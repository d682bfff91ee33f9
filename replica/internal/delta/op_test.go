package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestOpEncoding(t *testing.T) {
	for _, op := range []Op{
		{Copy, 0, 1}, {Copy, 1 << 20, 1 << 30}, {Copy, 0, MaxSize}, {Copy, MaxSize - 1, 1}, {Copy, MaxSize / 2, MaxSize / 2},
		{Literal, 0, 1}, {Literal, 77, 1 << 30}, {Literal, 0, MaxSize}, {Literal, MaxSize - 1, 1},
	} {
		b := AppendOp([]byte("x"), op)
		if len(b) > 1+MaxOp {
			t.Errorf("%v: %d bytes", op, len(b)-1)
		}
		got, rest, err := CutOp(append(b[1:], "rest"...), op.Offset)
		if err != nil || got != op || string(rest) != "rest" {
			t.Errorf("%v: decoded as %v, %q, %v", op, got, rest, err)
		}
		for n := range len(b) - 1 {
			if _, _, err := CutOp(b[1:1+n], op.Offset); !errors.Is(err, ErrInvalid) {
				t.Errorf("%v, cut to %d bytes: %v", op, n, err)
			}
		}
	}
}

func TestCutOpLimits(t *testing.T) {
	numbers := func(vs ...uint64) (b []byte) {
		for _, v := range vs {
			b = binary.AppendUvarint(b, v)
		}
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		at   int64
	}{
		{"copy of nothing", numbers(0, 0), 0},
		{"empty literal", numbers(1), 0},
		{"copy beyond the limit", numbers(2*(MaxSize+1), 0), 0},
		{"literal beyond the limit", numbers(2*(MaxSize+1) + 1), 0},
		{"copy that ends beyond the limit", numbers(2*2, MaxSize-1), 0},
		{"literal that ends beyond the limit", numbers(2*2 + 1), MaxSize - 1},
		{"offset beyond the limit", numbers(2, MaxSize+1), 0},
		{"offset that is negative as int64", numbers(2, 1<<63), 0},
		{"the largest length", numbers(1<<64-1, 0), 0},
		{"literal at a negative offset", numbers(3), -1},
		{"length in more bytes than needed", []byte{0x83, 0}, 0},
		{"offset in more bytes than needed", []byte{2, 0x80, 0}, 0},
		{"overflowing number", bytes.Repeat([]byte{0xff}, 20), 0},
	} {
		if op, _, err := CutOp(c.b, c.at); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: decoded as %v, %v", c.name, op, err)
		}
	}
}

func TestAppendOpPanics(t *testing.T) {
	for _, op := range []Op{{}, {Copy, 0, 0}, {Literal, -1, 1}, {3, 0, 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v was encoded", op)
				}
			}()
			AppendOp(nil, op)
		}()
	}
}

// What can be decoded encodes to the same bytes, and is within the limits.
func FuzzCutOp(f *testing.F) {
	f.Add(AppendOp(nil, Op{Copy, 5, 1 << 40}), int64(0))
	f.Add(AppendOp(nil, Op{Literal, 0, 1 << 40}), int64(1<<43))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, int64(-1))
	f.Fuzz(func(t *testing.T, b []byte, at int64) {
		op, rest, err := CutOp(b, at)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if err := op.check(); err != nil {
			t.Fatal(err)
		}
		if op.Kind == Literal && op.Offset != at {
			t.Fatalf("literal at %d, want %d", op.Offset, at)
		}
		if got := AppendOp(nil, op); !bytes.Equal(got, b[:len(b)-len(rest)]) || len(got) > MaxOp {
			t.Fatalf("%v encodes as %x", op, got)
		}
	})
}
