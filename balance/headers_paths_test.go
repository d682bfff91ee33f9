package balance_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
)

// bothPaths runs a test with a frontend that has a fast path and with one that has none.
func bothPaths(t *testing.T, test func(t *testing.T, f *front)) {
	t.Run("fast", func(t *testing.T) { test(t, openHTTP(t)) })
	t.Run("full", func(t *testing.T) { test(t, openHTTP(t, balance.WithoutFastPath())) })
}

// An answer that does not say what it is of stays that way, also where the fast path
// hands it over.
func TestNoContentTypeIsMadeUp(t *testing.T) {
	bothPaths(t, func(t *testing.T, f *front) {
		f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
			in := bufio.NewReader(c)
			for {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				switch r.URL.Path {
				case "/length":
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
				case "/chunks":
					io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<html>\r\n0\r\n\r\n")
				default: // not plain
					io.WriteString(c, "HTTP/1.1 200\r\nContent-Length: 6\r\n\r\n<html>")
				}
			}
		}))
		for _, path := range []string{"/length", "/chunks", "/handed-over", "/length", "/chunks"} {
			resp, err := http.Get("http://" + f.Addr().String() + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if got, ok := resp.Header["Content-Type"]; ok || string(body) != "<html>" {
				t.Errorf("%s: content type %q, body %q, %v", path, got, body, err)
			}
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

// Fields that have to stand in a head are no trailers, neither way, and no trailer says
// where a request comes from.
func TestMisplacedTrailersAreDropped(t *testing.T) {
	const misplaced = "Content-Length: 4\r\nX-Forwarded-For: 192.0.2.1\r\nHost: evil\r\n"
	bothPaths(t, func(t *testing.T, f *front) {
		got := make(chan http.Header, 1)
		f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			got <- r.Trailer
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\nContent-Length: 4\r\nSet-Cookie: a\r\n\r\n")
			io.Copy(io.Discard, c)
		}))
		c, in := dialFront(t, f)
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Forwarded-For\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n"+misplaced+"\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "ab" {
			t.Errorf("got %q, %v", body, err)
		}
		for whose, trailer := range map[string]http.Header{"request": <-got, "response": resp.Trailer} {
			if trailer.Get("X-Sum") != "1" || len(strings.Join(trailer["Content-Length"], "")+trailer.Get("Host")+trailer.Get("Set-Cookie")+trailer.Get("X-Forwarded-For")) > 0 {
				t.Errorf("the trailers of the %s are %v", whose, trailer)
			}
		}
	})
}

// An escape in a path reaches the backend as one, whatever else is in the path that has
// to be escaped: an escaped slash separates nothing.
func TestEscapesOfATargetStay(t *testing.T) {
	bothPaths(t, func(t *testing.T, f *front) {
		f.set(rawBackend(t, echoHead))
		for target, want := range map[string]string{
			"/a%2Fb":         "/a%2Fb",
			"/a%2Fb|c":       "/a%2Fb%7Cc",
			"/a%2F..%2fb^":   "/a%2F..%2fb%5E",
			"/\xc3\xa4%2Fb":  "/%C3%A4%2Fb",
			`/a%3Fb"?q=%2f|`: "/a%3Fb%22?q=%2f|",
			`//x%2Fy\#`:      "//x%2Fy%5C%23",
			"/{%7b%25%2F[@]": "/%7B%7b%25%2F[@]",
		} {
			c, in := dialFront(t, f)
			head := converse(t, c, in, "GET "+target+" HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")[0]
			if got := strings.Fields(head)[1]; got != want {
				t.Errorf("sent %q, the backend got %q; want %q", target, got, want)
			}
		}
	})
}

// What is hop by hop, or claims to be this proxy's, passes in no informational response.
func TestFieldsOfInformationalResponses(t *testing.T) {
	const early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\n" +
		"Proxy-Authenticate: Basic\r\nUpgrade: x\r\nProxy-Status: budgie; error=connection_refused\r\n\r\n"
	backend := func(t *testing.T) string {
		return rawBackend(t, func(_ int, c *net.TCPConn) {
			for in := bufio.NewReader(c); ; {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				io.WriteString(c, early+"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
	}
	check := func(t *testing.T, url string, protocols *http.Protocols) {
		tr := &http.Transport{Protocols: protocols}
		defer tr.CloseIdleConnections()
		got := make(chan http.Header, 1)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			got <- http.Header(h)
			return nil
		}})
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); string(body) != "ok" {
			t.Errorf("%q, %v", body, err)
		}
		if h := receive(t, got); len(h) != 1 || h.Get("Link") != "</a>" {
			t.Errorf("the informational response has %v", h)
		}
	}
	h1, h2 := new(http.Protocols), new(http.Protocols)
	h1.SetHTTP1(true)
	h2.SetUnencryptedHTTP2(true)
	bothPaths(t, func(t *testing.T, f *front) {
		f.set(backend(t))
		t.Run("h1", func(t *testing.T) { check(t, f.url("/"), h1) })
		t.Run("h2", func(t *testing.T) { check(t, f.url("/"), h2) })
	})
}

// What Connection names is hop by hop, also where it says that the connection ends.
func TestHopByHopBesideClose(t *testing.T) {
	bothPaths(t, func(t *testing.T, f *front) {
		f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			got := strings.Join(append(r.Header["X-Hop"], r.Header["X-End"]...), ",")
			head := "HTTP/1.1 103 Early Hints\r\nConnection: X-End\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: " +
				strconv.Itoa(len(got)) + "\r\n\r\n" + got
			for _, part := range strings.SplitAfter(head, "Con") { // in parts, as far as the system does not put them together
				io.WriteString(c, part)
			}
			io.Copy(io.Discard, c)
		}))
		for _, connection := range []string{"Connection: close, X-Hop\r\n", "Connection: X-Hop\r\nConnection: Close\r\n", "connection: x-hop ,close\r\nTE: trailers\r\n"} {
			c, in := dialFront(t, f)
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nX-End: 2\r\n"+connection+"\r\n")
			resp, err := http.ReadResponse(in, nil)
			for err == nil && resp.StatusCode == http.StatusEarlyHints {
				resp, err = http.ReadResponse(in, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if body, _ := io.ReadAll(resp.Body); string(body) != "2" {
				t.Errorf("%q: the backend got %q", connection, body)
			}
			if resp.Header["X-Hop"] != nil || resp.Header.Get("X-End") != "2" || !resp.Close {
				t.Errorf("%q: the client got %v, close %v", connection, resp.Header, resp.Close)
			}
		}
	})
}

// Max-Forwards is counted down, and what may go no further reaches no backend.
func TestMaxForwards(t *testing.T) {
	bothPaths(t, func(t *testing.T, f *front) {
		f.set(rawBackend(t, echoHead))
		for _, tc := range []struct {
			method, field string
			status        int
			want          string // at the backend
		}{
			{"OPTIONS", "0", 200, ""},
			{"TRACE", "0", 501, ""},
			{"OPTIONS", "5", 200, "4"},
			{"TRACE", "1", 200, "0"},
			{"OPTIONS", "x", 200, "x"},
			{"GET", "0", 200, "0"},
		} {
			c, in := dialFront(t, f)
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, tc.method+" / HTTP/1.1\r\nHost: a\r\nMax-Forwards: "+tc.field+"\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			head, _ := io.ReadAll(resp.Body)
			reached := strings.HasPrefix(string(head), tc.method)
			if resp.StatusCode != tc.status || reached != (tc.want != "") || reached && !strings.Contains(string(head), "Max-Forwards: "+tc.want+"\r\n") {
				t.Errorf("%s with %s: %d %q", tc.method, tc.field, resp.StatusCode, head)
			}
		}
	})
}
