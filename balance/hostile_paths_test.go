package balance_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
)

// answering is a backend that answers every request with the same bytes.
func answering(t *testing.T, answer string) string {
	return rawBackend(t, func(_ int, c *net.TCPConn) {
		for in := bufio.NewReader(c); ; {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			io.WriteString(c, answer)
		}
	})
}

// Who fills up the room for a chunk's size with blanks, or with zeros, or writes long
// extensions, is understood.
func TestSizesOfChunksInOddSpelling(t *testing.T) {
	for _, size := range []string{"2  ", "2\t", "0000000000000002", "2;" + strings.Repeat("x", 3000), "2;a=\"b c\" "} {
		bothPaths(t, func(t *testing.T, f *front) {
			f.set(answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+size+"\r\nok\r\n3\r\nay!\r\n0 \r\nX-Sum: 1\r\n\r\n"))
			c, in := dialFront(t, f)
			c.SetDeadline(time.Now().Add(patience))
			for range 2 {
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || string(body) != "okay!" || resp.Trailer.Get("X-Sum") != "1" {
					t.Fatalf("with the size %.20q got %q, %v, %v", size, body, resp.Trailer, err)
				}
			}
		})
	}
}

// A status below 100 is none, which net/http reads all the same and does not write: the
// client hears of it, and the request does not stay under way for ever.
func TestStatusThatDoesNotExist(t *testing.T) {
	for _, status := range []string{"000", "099"} {
		bothPaths(t, func(t *testing.T, f *front) {
			f.set(answering(t, "HTTP/1.1 "+status+" No\r\nContent-Length: 2\r\n\r\nok"))
			resp := get(t, f.url("/"))
			if want := "budgie; error=http_protocol_error"; resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Proxy-Status") != want {
				t.Errorf("%s became %d, %q; want 502, %q", status, resp.StatusCode, resp.Header.Get("Proxy-Status"), want)
			}
			eventually(t, "the request ends", func() bool { return f.Status()[0].Active == 0 })
			if n := f.Status()[0].Failures; n != 1 {
				t.Errorf("%d failures, want 1", n)
			}
		})
	}
}

// A backend that goes on and on with its header gets no longer than one that is silent.
func TestHeaderInDripsIsBounded(t *testing.T) {
	const response = 200 * time.Millisecond
	for _, opts := range [][]balance.Option{{}, {balance.WithoutFastPath()}} {
		f := openHTTP(t, append(opts, balance.WithResponseTimeout(response))...)
		ended := make(chan time.Duration, 1)
		f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
			if _, err := readRequest(c); err != nil {
				return
			}
			began := time.Now()
			drip := time.NewTicker(response / 8)
			defer drip.Stop()
			_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			for ; err == nil && time.Since(began) < patience; <-drip.C {
				_, err = io.WriteString(c, "x")
			}
			ended <- time.Since(began)
		}))
		if resp := get(t, f.url("/")); resp.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("got %d, want 504", resp.StatusCode)
		}
		if took := receive(t, ended); took > patience/2 {
			t.Errorf("the backend was listened to for %v", took)
		}
	}
}

// A client of HTTP/1.0 would take an informational answer for the answer: RFC 9110
// section 15.2.
func TestNothingInformationalForHTTP10(t *testing.T) {
	bothPaths(t, func(t *testing.T, f *front) {
		f.set(answering(t, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		c, _ := dialFront(t, f)
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.0 200 ") || strings.Contains(string(got), "Link") {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// An answer whose trailers break off has begun all the same, and its data is not lost.
func TestDataBeforeBrokenTrailers(t *testing.T) {
	for _, end := range []string{"", "X-Sum: 1\r\n", "no trailer\r\n\r\n"} {
		bothPaths(t, func(t *testing.T, f *front) {
			f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
				if _, err := readRequest(c); err == nil {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n00\r\n"+end)
				}
			}))
			c, in := dialFront(t, f)
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("before %q: %v", end, err)
			}
			if data, err := io.ReadAll(resp.Body); err != io.ErrUnexpectedEOF || string(data) != "data" {
				t.Errorf("before %q: got %q, %v", end, data, err)
			}
		})
	}
}

// Over HTTP/1.0 nobody can ask for another protocol: RFC 9110 section 7.8.
func TestNoUpgradeOverHTTP10(t *testing.T) {
	bothPaths(t, func(t *testing.T, f *front) {
		f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Header.Get("Upgrade")+r.Header.Get("Connection"))
		}))
		c, in := dialFront(t, f)
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) > 0 {
			t.Errorf("the backend got %q, %v", body, err)
		}
	})
}
