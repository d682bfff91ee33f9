package balance

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

func testBody(src io.Reader) *replayBody {
	return &replayBody{src: src, deadline: func(time.Time) error { return nil }, stall: time.Second}
}

// Whatever part of it earlier attempts have read, an attempt that is possible
// sees the whole body, and one is possible unless more than the limit was read.
func TestReplayIsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(replayMax-10, replayMax+10)).Draw(t, "size")
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		var src io.Reader = bytes.NewReader(body)
		if rapid.Bool().Draw(t, "data with EOF") {
			src = iotest.DataErrReader(src)
		}
		b := testBody(src)
		most := 0
		for range rapid.IntRange(0, 4).Draw(t, "failed attempts") {
			n, err := io.CopyN(io.Discard, b.attempt(), int64(rapid.IntRange(0, size+1).Draw(t, "read")))
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
			most = max(most, int(n))
			if possible := b.rewind(); possible != !b.lost || !possible && most == 0 || possible && most > replayMax {
				t.Fatalf("rewind = %v after %d bytes were read", possible, most)
			}
			if b.lost {
				return
			}
		}
		got, err := io.ReadAll(b.attempt())
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("got %d bytes, %v; want all %d", len(got), err, size)
		}
		if !b.complete() {
			t.Fatal("the end was read and is not known")
		}
	})
}

// A read of a failed attempt that is still waiting for the client is not lost
// to the next attempt, and the failed one gets nothing more.
func TestReplayLateRead(t *testing.T) {
	r, w := io.Pipe()
	b := testBody(r)
	first := b.attempt()
	late := make(chan error, 1)
	go func() {
		_, err := first.Read(make([]byte, 100))
		late <- err
	}()
	w.Write(nil) // returns when the read is waiting
	if !b.rewind() {
		t.Fatal("rewind is not possible although nothing was read")
	}
	second := b.attempt()
	go func() {
		w.Write([]byte("hello"))
		w.Close()
	}()
	if got, err := io.ReadAll(second); err != nil || string(got) != "hello" {
		t.Errorf("the second attempt got %q, %v", got, err)
	}
	if err := <-late; err != nil {
		t.Errorf("the late read: %v", err)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, errBodyGone) {
		t.Errorf("the failed attempt reads on: %v", err)
	}
}

func TestReplayClientError(t *testing.T) {
	b := testBody(iotest.ErrReader(errTest))
	if _, err := io.ReadAll(b.attempt()); !errors.Is(err, errTest) {
		t.Errorf("read: %v", err)
	}
	if b.rewind() || !errors.Is(b.clientErr(), errTest) {
		t.Errorf("rewind after the client's error, %v", b.clientErr())
	}
}

// Once the response has begun nothing more is kept.
func TestReplaySettled(t *testing.T) {
	b := testBody(bytes.NewReader(make([]byte, 100)))
	a := b.attempt()
	io.ReadFull(a, make([]byte, 10))
	b.settle()
	if n, err := io.Copy(io.Discard, a); n != 90 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if len(b.kept) > 10 || b.rewind() {
		t.Errorf("kept %d bytes that nobody needs", len(b.kept))
	}
}
