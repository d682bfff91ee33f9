package balance

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// framed runs a stream through a framing, in parts of the given size, and returns
// what came through. Requests that want another protocol get none.
func framed(stream []byte, part int) ([]byte, *framing) {
	var out []byte
	var g framing
	feed := func(p []byte) {
		p = bytes.Clone(p)
		out = append(out, p[:g.filter(p)]...)
	}
	for len(stream) > 0 && g.err == nil {
		n := min(part, len(stream))
		feed(stream[:n])
		stream = stream[n:]
		for g.state == framingUndecided && g.err == nil {
			g.decide(false)
			held := g.held
			g.held = nil
			feed(held)
		}
	}
	return out, &g
}

// requestsIn counts the requests that net/http makes of a stream, and those of them
// that came with a body that had an end.
func requestsIn(stream []byte) int {
	n := 0
	for r := bufio.NewReader(bytes.NewReader(stream)); ; n++ {
		req, err := http.ReadRequest(r)
		if err != nil {
			return n
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return n + 1
		}
	}
}

const getRequest = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestFraming(t *testing.T) {
	post := func(fields, body string) string { return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body }
	const te = "Transfer-Encoding: chunked\r\n"
	for _, tc := range []struct {
		name, stream string
		heads        int
		bad          bool
	}{
		{"two", getRequest + getRequest, 2, false},
		{"empty lines", "\r\n\n" + getRequest + "\r\n" + getRequest, 2, false},
		{"too many empty lines", "\r\n\r\n\r\n" + getRequest, 1, false}, // http.Server refuses the rest
		{"length", post("Content-Length: 5\r\n", "GET /") + getRequest, 2, false},
		{"length of another case, twice", post("content-LENGTH:5\r\nContent-Length: 5 \r\n", "GET /") + getRequest, 2, false},
		{"chunks", post(te, "5;x=\"y\"\r\nGET /\r\n0a\r\n0123456789\r\n0\r\nX: y\r\n\r\n") + getRequest, 2, false},
		{"length within a body", post("Content-Length: 40\r\n", strings.Repeat("\r\nContent-Length: 7\r\n"+te, 1)[:40]) + getRequest, 2, false},
		{"long line", post("X: "+strings.Repeat("x", 5000)+"\r\nContent-Length: 5\r\n", "GET /") + getRequest, 2, false},
		{"length behind many blanks", post("Content-Length:"+strings.Repeat(" ", 300)+"5\r\n", "GET /") + getRequest, 2, false},
		{"folded", post("X: y\r\n Content-Length: 5\r\n"+te, "0\r\n\r\n") + getRequest, 2, false},
		{"upgrade refused", "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n" + getRequest, 2, false},
		{"length and chunks", post("Content-Length: 5\r\n"+te, "0\r\n\r\n"), 0, true},
		{"chunks and length", post(te+"Content-Length: 5\r\n", "0\r\n\r\n"), 0, true},
		{"behind another", getRequest + post(te+"Content-Length: 5\r\n", "0\r\n\r\n"), 1, true},
		{"behind an upgrade", "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n" + post(te+"Content-Length: 5\r\n", "0\r\n\r\n"), 1, true},
		{"two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", ""), 0, true},
		{"odd length", post("Content-Length: +5\r\n", ""), 0, true},
		{"folded length", post("Content-Length:\r\n 5\r\n", ""), 0, true},
		{"folded coding", post("Transfer-Encoding:\r\n chunked\r\n", ""), 0, true},
		{"chunks of HTTP/1.0", "POST / HTTP/1.0\r\n" + te + "\r\n0\r\n\r\n", 0, true},
		{"chunks of HTTP/1.0 with a long target", "POST /" + strings.Repeat("x", 300) + " HTTP/1.0\r\n" + te + "\r\n0\r\n\r\n", 0, true},
		{"end of a long extension", post(te, "5;x="+strings.Repeat("x", 300)+"\x00y\r\nhello\r\n"), 1, true},
		{"chunk size", post(te, "0x5\r\nhello\r\n"), 1, true},
		{"sign", post(te, "+5\r\nhello\r\n"), 1, true},
		{"bare LF", post(te, "5\nhello\r\n"), 1, true},
		{"long chunk", post(te, "5\r\nhello!\r\n"), 1, true},
		{"huge chunk", post(te, "fffffffffffffffff\r\nhello!\r\n"), 1, true},
		{"bare LF in a trailer", post(te, "0\r\nX: y\n\r\n"), 1, true},
		{"preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00Content-Length: 5\r\n" + te, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, part := range []int{1, 2, 7, 1 << 20} {
				out, g := framed([]byte(tc.stream), part)
				if g.heads != tc.heads || (g.err != nil) != tc.bad {
					t.Errorf("in parts of %d: %d headers, error %v; want %d, %v", part, g.heads, g.err, tc.heads, tc.bad)
				}
				if !tc.bad && len(out)+8 < len(tc.stream) {
					t.Errorf("in parts of %d: %d of %d bytes came through", part, len(out), len(tc.stream))
				}
			}
		})
	}
}

func TestFramingHoldsBack(t *testing.T) {
	var g framing
	text := []byte("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\nearly")
	n := g.filter(text)
	if !bytes.HasSuffix(text[:n], []byte("\r\n\r\n")) || string(g.held) != "early" {
		t.Fatalf("%q came through, %q is held", text[:n], g.held)
	}
	g.decide(true)
	if p := []byte("\x81\x05any"); g.filter(p) != len(p) || g.err != nil {
		t.Error("something is held back after the switch")
	}
	var flooded framing
	flooded.filter([]byte("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n"))
	flooded.filter(make([]byte, maxHeld+1))
	if flooded.err == nil {
		t.Error("there is no bound on what is held")
	}
}

// A request that wished for another protocol and was answered before its body was read
// silences nobody: what follows is passed on.
func TestFramingOfUpgradeRefusedEarly(t *testing.T) {
	const body = "hello"
	for name, head := range map[string]string{
		"length": "Content-Length: 5\r\n\r\n",
		"chunks": "Transfer-Encoding: chunked\r\n\r\n5\r\n",
	} {
		var g framing
		g.filter([]byte("POST / HTTP/1.1\r\nUpgrade: x\r\n" + head))
		g.decide(false)
		rest := body + getRequest
		if name == "chunks" {
			rest = body + "\r\n0\r\n\r\n" + getRequest
		}
		if n := g.filter([]byte(rest)); n != len(rest) || g.heads != 2 || g.err != nil {
			t.Errorf("%s: %d of %d bytes came through, %d headers, %v", name, n, len(rest), g.heads, g.err)
		}
	}
}

// Whatever comes, and in whatever parts, net/http never finds a request where a
// framing has not seen one.
func FuzzFraming(f *testing.F) {
	f.Add([]byte(getRequest+getRequest), 3)
	f.Add([]byte("\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 ;a\r\nhello\r\n0\r\nX: y\r\n\r\n"+getRequest), 5)
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n"+getRequest+getRequest), 1)
	f.Add([]byte("POST / HTTP/1.0\nHost: a\nX: b\n Content-Length: 5\n\n"+getRequest), 2)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nx"+getRequest), 4)
	f.Fuzz(func(t *testing.T, stream []byte, part int) {
		if part < 1 || len(stream) > 1<<16 {
			return
		}
		whole, a := framed(stream, len(stream)+1)
		out, b := framed(stream, part)
		if a.heads != b.heads || (a.err == nil) != (b.err == nil) {
			t.Fatalf("whole %d headers, %v; in parts of %d: %d, %v", a.heads, a.err, part, b.heads, b.err)
		}
		if a.err == nil && !bytes.Equal(whole, out) {
			t.Fatalf("whole %q, in parts of %d %q", whole, part, out)
		}
		if a.state != framingThrough && requestsIn(out) > b.heads {
			t.Fatalf("net/http finds %d requests in %q, and %d were seen", requestsIn(out), out, b.heads)
		}
	})
}

// What was held back is passed on before what comes after the decision, also
// where somebody was waiting for that already.
func TestHeldBytesKeepTheirOrder(t *testing.T) {
	for _, switched := range []bool{true, false} {
		near, far := net.Pipe()
		defer near.Close()
		c := &h1Conn{Conn: near, client: newConnSet().addClient(near, netip.Addr{}, time.Minute)}
		read := make(chan string)
		go func() {
			var got []byte
			for one := make([]byte, 1); ; {
				n, err := c.Read(one)
				got = append(got, one[:n]...)
				if err != nil {
					read <- string(got)
					return
				}
			}
		}()
		const ask = "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n"
		io.WriteString(far, ask+"G") // returns when the last byte was read, and is held soon after
		for held := 0; held == 0; runtime.Gosched() {
			c.mu.Lock()
			held = len(c.framing.held)
			c.mu.Unlock()
		}
		c.decide(switched)
		io.WriteString(far, "ET / HTTP/1.1\r\n\r\n")
		far.Close()
		if got := <-read; got != ask+"GET / HTTP/1.1\r\n\r\n" {
			t.Errorf("switched %v: %q", switched, got)
		}
	}
}

// Requests that came together behind one that wished for another protocol, and wish for
// one too, are passed on one by one and byte by byte as they came.
func TestHeldRequestsKeepTheirOrder(t *testing.T) {
	const ask = "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n"
	const stream = ask + ask + "POST / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 10\r\n\r\n0123456789" + ask + getRequest
	for part := 1; part <= len(stream); part++ {
		c := new(h1Conn)
		came := []byte(stream)
		got := string(came[:c.filter(came)])
		for p := make([]byte, part); len(got) < len(stream); {
			n, err := c.leftover(p)
			if err != nil {
				t.Fatal(err)
			}
			if got += string(p[:n]); n == 0 && c.framing.state != framingUndecided {
				break // nothing more would come
			} else if n == 0 {
				c.decide(false)
			}
		}
		if got != stream {
			t.Fatalf("in parts of %d: %q", part, got)
		}
	}
}
