package replicatest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/budgiehq/budgie/replica"
)

func testMissingSource(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, dst, Tree{"precious": F("1")})
	before, err := describe(dst)
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	sent, received := copyOver(t.Context(), s, here, there, filepath.Join(src, "missing"), dst)
	if !errors.Is(sent.err, os.ErrNotExist) {
		t.Errorf("Send of a missing directory: %v, want os.ErrNotExist", sent.err)
	}
	if received.err == nil {
		t.Error("Receive from a failed Send returned no error")
	}
	after, err := describe(dst)
	if err != nil || len(after) != len(before) || after["precious"] != before["precious"] {
		t.Errorf("the copy was changed: %v, %v", after, err)
	}
}

// errCut is what a cut connection returns.
var errCut = errors.New("connection cut")

// cutConn breaks for good after a number of bytes, in either direction.
type cutConn struct {
	net.Conn
	left atomic.Int64
}

func (c *cutConn) spend(n int) bool {
	if c.left.Add(-int64(n)) < 0 {
		_ = c.Close()
		return false
	}
	return true
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 512)])
	if !c.spend(n) {
		return 0, errCut
	}
	return n, err
}

func (c *cutConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		chunk := p[:min(len(p), 512)]
		if !c.spend(len(chunk)) {
			return n, errCut
		}
		m, err := c.Conn.Write(chunk)
		n += m
		if err != nil {
			return n, err
		}
		p = p[m:]
	}
	return n, nil
}

func testCut(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"same": F("same"), "changed": F(strings.Repeat("new ", 300)), "new": F("new"), "dir/moved": F("moved"), "l": {Link: "new"}})
	start := Tree{"same": F("same"), "changed": F("old"), "moved": F("moved"), "extra": F("x")}
	Build(t, dst, start)
	fresh, old := contents(t, src), contents(t, dst)

	// How many bytes a whole copy takes is seen by making one.
	whole := filepath.Join(t.TempDir(), "whole")
	Build(t, whole, start)
	here, there := net.Pipe()
	counted := &cutConn{Conn: there}
	counted.left.Store(1 << 40)
	if sent, received := copyOver(t.Context(), s, here, counted, src, whole); sent.err != nil || received.err != nil {
		t.Fatal(sent.err, received.err)
	}
	total := 1<<40 - counted.left.Load()

	const cuts = 40
	for i := range int64(cuts) {
		here, there := net.Pipe()
		cut := &cutConn{Conn: there}
		cut.left.Store(total * i / cuts)
		_, received := copyOver(t.Context(), s, here, cut, src, dst)
		if i == 0 && received.err == nil {
			t.Fatal("Receive over a connection that carries nothing succeeded")
		}
		if wrong := oldOrNew(contents(t, dst), old, fresh); len(wrong) > 0 {
			t.Fatalf("after a cut at byte %d of %d: %v", total*i/cuts, total, wrong)
		}
		if received.err == nil {
			break // it goes on from where it was: nothing is left to send
		}
	}
	mustCopy(t, s, src, dst)
}

func testContext(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"a": F("1")})
	for name, call := range map[string]func(ctx context.Context, conn io.ReadWriter) error{
		"Send": func(ctx context.Context, conn io.ReadWriter) error { _, err := s.Send(ctx, conn, src); return err },
		"Receive": func(ctx context.Context, conn io.ReadWriter) error {
			_, err := s.Receive(ctx, conn, dst, replica.ReceiveOptions{})
			return err
		},
	} {
		for _, kind := range []string{"with deadlines", "with Close alone"} {
			t.Run(name+" over a connection "+kind, func(t *testing.T) {
				here, there := net.Pipe() // there never answers
				defer there.Close()
				defer here.Close()
				var conn io.ReadWriter = here
				if kind == "with Close alone" {
					conn = struct{ io.ReadWriteCloser }{here}
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- call(ctx, conn) }()
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("want context.Canceled, got %v", err)
				}
				if err := call(ctx, conn); !errors.Is(err, context.Canceled) {
					t.Errorf("with an ended context: want context.Canceled, got %v", err)
				}
			})
		}
	}
}

func testConcurrent(t *testing.T, s Syncer) {
	src, _ := dirs(t)
	Build(t, src, Tree{"a": F("1"), "b/c": F(strings.Repeat("2", 100_000))})
	var wg sync.WaitGroup
	base := t.TempDir()
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			dst := filepath.Join(base, fmt.Sprint(i))
			if _, _, err := Copy(t.Context(), s, src, dst); err != nil {
				errs[i] = err
			} else if diff := Diff(src, dst); diff != "" {
				errs[i] = errors.New(diff)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func testSecondCopy(t *testing.T, s Syncer) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	var digests []string
	for _, content := range []string{"1", "2", "2"} {
		src, dst := dirs(t)
		Build(t, src, Tree{"f": F(content)})
		sent, received := copyOver(t.Context(), s, here, there, src, dst)
		if err := errors.Join(sent.err, received.err); err != nil {
			t.Fatalf("copy %d over one connection: %v", len(digests)+1, err)
		}
		digests = append(digests, received.report.Digest)
	}
	if digests[0] == digests[1] || digests[1] != digests[2] || slices.Contains(digests, "") {
		t.Errorf("digests of three copies over one connection: %q", digests)
	}
}
