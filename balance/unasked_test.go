package balance

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"
)

// An answer that nobody asked for, and that came together with one that somebody did, is
// not the next request's, however late http.Transport sees it.
func TestSurplusAnswerSeenLate(t *testing.T) {
	const surplus = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	synctest.Test(t, func(t *testing.T) {
		backends := 0
		f := newFrontend(New(), Config{}, roundRobin{}, nil)
		f.connect = pipesTo(func(c net.Conn) {
			answer := surplus
			if backends++; backends > 1 {
				answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
			}
			buf := make([]byte, 4096)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
				_, _ = io.WriteString(c, answer) // or the other side has closed it
			}
		})
		tr := newUpstream(f)
		idle, taken := make(chan struct{}), make(chan struct{})
		go func() {
			resp, err := tr.RoundTrip(traced(t, &httptrace.ClientTrace{PutIdleConn: func(error) {
				close(idle)
				<-taken // the goroutine that is to see what is left is held up
				time.Sleep(time.Second)
			}}))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		}()
		<-idle
		reused := false
		resp, err := tr.RoundTrip(traced(t, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			if info.Reused {
				reused = true
				close(taken)
				info.Conn.(*upstreamConn).settle()
			}
		}}))
		if !reused {
			t.Fatal("the connection was not used again")
		}
		if err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != "good" || err != nil {
				t.Errorf("the answer is %q, %v", body, err)
			}
		}
		tr.CloseIdleConnections()
	})
}

// What comes on a connection after it was taken, and before anything was sent on it, is an
// error; what comes after that is an answer.
func TestUnaskedBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, asked := range []bool{false, true} {
			mine, theirs := net.Pipe()
			c := &upstreamConn{Conn: mine, set: newConnSet(), stall: time.Minute}
			type read struct {
				n   int
				err error
			}
			reads := make(chan read)
			go func() {
				time.Sleep(time.Second)
				n, err := c.Read(make([]byte, 10))
				reads <- read{n, err}
			}()
			began := time.Now()
			if c.settle(); time.Since(began) != time.Second {
				t.Errorf("it waited for %v until somebody reads", time.Since(began))
			}
			if asked {
				go func() { _, _ = theirs.Read(make([]byte, 10)) }()
				if _, err := c.Write([]byte("ask")); err != nil {
					t.Error(err)
				}
			}
			if _, err := theirs.Write([]byte("said")); err != nil {
				t.Error(err)
			}
			switch r := <-reads; {
			case asked && (r.n != 4 || r.err != nil), !asked && (r.n != 0 || !errors.Is(r.err, errUnasked)):
				t.Errorf("asked: %t: %+v", asked, r)
			}
			time.AfterFunc(time.Second, func() { c.Close() })
			began = time.Now()
			if c.settle(); time.Since(began) != time.Second {
				t.Errorf("it waited for %v until the connection was closed", time.Since(began))
			}
			c.settle() // it is closed
			theirs.Close()
		}
	})
}

// traced returns a request for a backend.
func traced(t *testing.T, trace *httptrace.ClientTrace) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, "http://backend/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
