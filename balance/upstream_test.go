package balance

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deafConn is a backend that answers the beginning of a request and takes no
// more of it: every write after the first fails, and the answer is there only
// after one has failed.
type deafConn struct {
	net.Conn
	mu     sync.Mutex
	writes int
	failed chan struct{}
	answer io.Reader
}

func (c *deafConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes++; c.writes == 1 {
		return len(p), nil
	}
	if c.writes == 2 {
		close(c.failed)
	}
	return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
}

func (c *deafConn) Read(p []byte) (int, error) {
	<-c.failed
	return c.answer.Read(p)
}

func (c *deafConn) SetWriteDeadline(time.Time) error { return nil }
func (c *deafConn) Close() error                     { return nil }

// An answer that came before the connection broke is found.
func TestAnswerBehindBrokenWrite(t *testing.T) {
	const answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
	for range 20 {
		conn := &deafConn{failed: make(chan struct{}), answer: strings.NewReader(answer)}
		f := newFrontend(New(), Config{}, roundRobin{}, nil)
		u := &upstreamConn{Conn: conn, set: f.dials, stall: time.Second}
		tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return u, nil }}
		req, err := http.NewRequest(http.MethodPost, "http://backend/", io.LimitReader(zeros{}, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || string(body) != "big" {
			t.Fatalf("got %d %q, %v", resp.StatusCode, body, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// After seal nothing goes out, and what went out before is counted.
func TestSealedConnSendsNothing(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	u := &upstreamConn{Conn: near, set: newConnSet(), stall: time.Minute}
	go io.ReadFull(far, make([]byte, 5))
	if n, err := u.Write([]byte("hello")); n != 5 || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	if n := u.seal(); n != 5 {
		t.Errorf("seal = %d; want the 5 bytes sent", n)
	}
	if n, err := u.Write([]byte("more")); n != 0 || err == nil {
		t.Errorf("Write after seal = %d, %v", n, err)
	}
}
