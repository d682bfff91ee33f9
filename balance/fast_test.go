package balance_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// echoHead answers every request with its head as the backend got it, again and again.
func echoHead(_ int, c *net.TCPConn) {
	in := bufio.NewReader(c)
	for {
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%s", head.Len(), head.String())
	}
}

// converse sends requests on one connection, and returns the answers' bodies.
func converse(t *testing.T, c net.Conn, in *bufio.Reader, requests ...string) (bodies []string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, strings.Join(requests, "")); err != nil {
		t.Fatal(err)
	}
	for range requests {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("Date") == "" || resp.Header.Get("Connection") != "" {
			t.Errorf("the header of the answer is %v", resp.Header)
		}
		bodies = append(bodies, string(body))
	}
	return bodies
}

func dialFront(t *testing.T, f *front) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

// On the fast path names of fields stay as they were written, which tells it from the
// full one; a connection that has left it does not come back.
func TestPlainRequestsTakeTheFastPath(t *testing.T) {
	const plain, special = "GET /p HTTP/1.1\r\nHost: a\r\nx-oDD: 1\r\n\r\n", "GET /s HTTP/1.1\r\nHost: a\r\nx-oDD: 1\r\nTE: trailers\r\n\r\n"
	f := openHTTP(t)
	f.set(rawBackend(t, echoHead))
	c, in := dialFront(t, f)
	all := append(converse(t, c, in, plain), converse(t, c, in, plain, plain)...)
	all = append(all, converse(t, c, in, plain, special)...)
	all = append(all, converse(t, c, in, plain)...)
	for i, body := range all {
		if fast, want := strings.Contains(body, "\r\nx-oDD: 1\r\n"), i < 4; fast != want {
			t.Errorf("request %d: on the fast path is %v, want %v: %q", i, fast, want, body)
		}
		if !strings.Contains(body, "\r\nX-Forwarded-For: 127.0.0.1\r\n") || !strings.Contains(body, "\r\nForwarded: for=127.0.0.1;host=\"a\";proto=http\r\n") {
			t.Errorf("request %d lacks its origin: %q", i, body)
		}
	}
}

// What a backend sends late, when somebody else may have the connection, is nobody's
// answer.
func TestFastPathReusesNoConnectionThatSpeaks(t *testing.T) {
	f := openHTTP(t)
	late := make(chan struct{})
	f.set(rawBackend(t, func(n int, c *net.TCPConn) {
		in := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
			if n == 0 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
				close(late)
			}
		}
	}))
	c, in := dialFront(t, f)
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	if got := converse(t, c, in, get); got[0] != "0" {
		t.Errorf("the first answer is %q", got)
	}
	<-late
	if got := converse(t, c, in, get, get); got[0] != "1" || got[1] != "1" {
		t.Errorf("further answers are %q", got)
	}
}

// A client that leaves while its answer stands still leaves no connection behind.
func TestFastPathNoticesThatTheClientLeft(t *testing.T) {
	ended := make(chan balance.Exchange, 1)
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: &endings{ended}})
	gone := make(chan error, 1)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
			_, err := c.Read(make([]byte, 1))
			gone <- err
		}
	}))
	c, in := dialFront(t, f)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case err := <-gone:
		if err == nil {
			t.Error("the backend was sent something")
		}
	case <-time.After(patience):
		t.Fatal("the backend's connection is open")
	}
	if e := <-ended; e.Cause != balance.CauseClient || e.Sent != 3 || e.Status != 200 || e.Attempts != 1 {
		t.Errorf("the observer was told %+v", e)
	}
}

// A body that stands still comes to its end, and the connection goes on.
func TestFastPathWaitsForBodies(t *testing.T) {
	f := openHTTP(t)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			parts := []string{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab", "cdef"}
			if r.URL.Path == "/chunks" {
				parts = []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na", "b\r\n4\r\ncdef\r\n0", "\r\nA: b\r\nHost: b\r\n", "\r\n"}
			}
			for i, p := range parts {
				if i == 1 {
					<-time.After(1100 * time.Millisecond) // longer than the fast path waits
				}
				io.WriteString(c, p)
			}
		}
	}))
	c, in := dialFront(t, f)
	// What is sent meanwhile is the next request.
	if got := converse(t, c, in, "GET /length HTTP/1.1\r\nHost: a\r\n\r\n", "GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n", "GET /length HTTP/1.1\r\nHost: a\r\n\r\n"); strings.Join(got, " ") != "abcdef abcdef abcdef" {
		t.Errorf("got %q", got)
	}
}

// A client that sends as much at once as a connection has room for, while an answer
// stands still, may be idle no longer than others.
func TestFastPathClosesIdleConnections(t *testing.T) {
	f := openHTTP(t, balance.WithKeepAlive(time.Second), balance.WithResponseTimeout(40*time.Millisecond))
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
			if r.URL.Path == "/slow" {
				<-time.After(50 * time.Millisecond) // longer than the fast path waits
			}
			io.WriteString(c, "b")
		}
	}))
	const room = 4096
	c, in := dialFront(t, f)
	converse(t, c, in, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	all := []string{"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX-Fill: \r\n\r\n"}
	all[1] = strings.Replace(all[1], "X-Fill: ", "X-Fill: "+strings.Repeat("x", room-len(all[0])-len(all[1])), 1)
	converse(t, c, in, all...)
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
}

// An answer that breaks off ends the client's connection, and is told as it was.
func TestFastPathPassesOnThatAnAnswerBreaksOff(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc",
		"chunks":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"rubbish": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nrubbish\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan balance.Exchange, 1)
			f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: &endings{ended}})
			f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					io.WriteString(c, answer)
				}
			}))
			c, in := dialFront(t, f)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err == nil || string(body) != "abc" && name != "rubbish" {
				t.Errorf("the client got %q, %v", body, err)
			}
			if e := <-ended; e.Cause != balance.CauseIncomplete || e.Err == nil {
				t.Errorf("the observer was told %+v", e)
			}
			if s := f.Status()[0]; s.Active != 0 || s.Failures != 1 {
				t.Errorf("the status is %+v", s)
			}
		})
	}
}

// endings passes on what has ended.
type endings struct{ ended chan balance.Exchange }

func (*endings) Opened(*balance.Source)                         {}
func (*endings) Closed(*balance.Source)                         {}
func (*endings) Changed(*balance.Source, balance.BackendChange) {}
func (e *endings) Ended(_ *balance.Source, x balance.Exchange)  { e.ended <- x }

// fixed answers what looks like a request with the same bytes, without allocations.
func fixed(c net.Conn, answer []byte) {
	buf := make([]byte, 4096)
	for {
		if n, err := c.Read(buf); n == 0 || err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// A request that is like the one before costs no memory.
func TestFastPathAllocatesNothing(t *testing.T) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: keep-alive\r\nDate: Thu, 26 Nov 2026 10:00:00 GMT\r\n\r\n" + strings.Repeat("b", 1000))
	f := openHTTP(t)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) { fixed(c, answer) }))
	c, _ := dialFront(t, f)
	request, buf := []byte("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"), make([]byte, 4096)
	once := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(answer)-len("Connection: keep-alive\r\n"); {
			n, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}
	once()
	const many = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range many {
		once()
	}
	runtime.ReadMemStats(&after)
	if per := float64(after.Mallocs-before.Mallocs) / many; per > allocations {
		t.Errorf("%.2f allocations per request", per)
	}
}

// Where many requests are under way when a frontend is shut down at once, all of them
// end, on whatever path they are.
func TestFastPathIsCutOff(t *testing.T) {
	f := openHTTP(t)
	arrived := make(chan struct{}, 4)
	f.set(rawBackend(t, func(n int, c *net.TCPConn) {
		http.ReadRequest(bufio.NewReader(c))
		if n%2 == 0 {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
		}
		arrived <- struct{}{}
		io.Copy(io.Discard, c)
	}))
	for range cap(arrived) {
		c, _ := dialFront(t, f)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	for range cap(arrived) {
		<-arrived
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown = %v", err)
	}
	if s := f.Status()[0]; s.Active != 0 {
		t.Errorf("%d requests are under way", s.Active)
	}
}
