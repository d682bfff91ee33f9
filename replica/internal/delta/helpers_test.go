package delta

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seeded returns a source of randomness whose seed the test's output names.
func seeded(t testing.TB) (*rand.Rand, *rand.ChaCha8) {
	t.Helper()
	n := rand.Uint64()
	t.Logf("seed %#x", n)
	return fromSeed(n)
}

// fromSeed returns numbers and bytes of one seed.
func fromSeed(n uint64) (*rand.Rand, *rand.ChaCha8) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], n)
	bytes := rand.NewChaCha8(seed)
	return rand.New(bytes), bytes
}

// random returns n bytes.
func random(r io.Reader, n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		panic(err)
	}
	return b
}

// listOf returns the list of a content.
func listOf(t testing.TB, c Class, content []byte) *List {
	t.Helper()
	b := NewBuilder(c)
	if n, err := b.Write(content); n != len(content) || err != nil {
		t.Fatalf("Write of %d bytes: %d, %v", len(content), n, err)
	}
	l, err := b.List()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// bufferSize is how much is moved at once.
const bufferSize = 128 << 10

// apply writes content of size bytes to dst, as operations say.
func apply(dst io.Writer, old *io.SectionReader, size int64, ops []Op, literals io.Reader) error {
	k := NewChecker(old.Size(), size)
	buf := make([]byte, bufferSize)
	for _, op := range ops {
		if err := take(k, op); err != nil {
			return err
		}
		from := literals
		if op.Kind == Copy {
			from = io.NewSectionReader(old, op.Offset, op.Length)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{io.LimitReader(from, op.Length)}, buf); err != nil || n != op.Length {
			return fmt.Errorf("operation %v: %d bytes, %v", op, n, err)
		}
	}
	if !k.Done() {
		return fmt.Errorf("%d of %d bytes", k.Made(), size)
	}
	return nil
}

// section returns content as apply wants it.
func section(content []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content)))
}

// literalsOf returns the bytes that a sender sends along with operations.
func literalsOf(ops []Op, content []byte) []byte {
	var b []byte
	for _, op := range ops {
		if op.Kind == Literal {
			b = append(b, content[op.Offset:op.Offset+op.Length]...)
		}
	}
	return b
}

// literalBytes is how many those are.
func literalBytes(ops []Op) (n int64) {
	for _, op := range ops {
		if op.Kind == Literal {
			n += op.Length
		}
	}
	return n
}

// checkPlan checks what holds for every plan: it covers the new content, stays
// within the old one, and has no operation that its neighbour could do.
func checkPlan(t testing.TB, ops []Op, oldSize, newSize int64) {
	t.Helper()
	var at int64
	for i, op := range ops {
		if err := op.check(); err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
		if op.Kind == Literal && op.Offset != at {
			t.Fatalf("operation %d is the literal at %d, after %d bytes", i, op.Offset, at)
		}
		if op.Kind == Copy && op.Offset+op.Length > oldSize {
			t.Fatalf("operation %d copies %d bytes at %d, of %d", i, op.Length, op.Offset, oldSize)
		}
		if i > 0 && ops[i-1].Kind == op.Kind && ops[i-1].Offset+ops[i-1].Length == op.Offset {
			t.Fatalf("operations %d and %d are not merged: %v, %v", i-1, i, ops[i-1], op)
		}
		at += op.Length
	}
	if at != newSize {
		t.Fatalf("the plan makes %d of %d bytes", at, newSize)
	}
}
