package balance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// seen runs one request through a frontend and returns what the backend saw.
func seen(t *testing.T, f *front, change func(*http.Request)) *http.Request {
	t.Helper()
	ch := make(chan *http.Request, 1)
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) { ch <- r }))
	req := request(t, http.MethodGet, f.url("/"), nil)
	change(req)
	do(t, req)
	return receive(t, ch)
}

func TestCaseB1ClientAddressSpoofsDropped(t *testing.T) {
	r := seen(t, openHTTP(t), func(r *http.Request) {
		r.Host = "web.example:8080"
		for _, name := range []string{
			"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
			"X-Real-Ip", "Forwarded", "X_Forwarded_For", "X-Forwarded_proto", "X-Forwarded",
		} {
			r.Header[name] = []string{"spoofed"}
		}
		r.Header.Set("X-Mine", "kept")
	})
	want := map[string]string{
		"X-Forwarded-For":   "127.0.0.1",
		"X-Forwarded-Host":  "web.example:8080",
		"X-Forwarded-Proto": "http",
		"Forwarded":         `for=127.0.0.1;host="web.example:8080";proto=http`,
		"X-Mine":            "kept",
	}
	for name, value := range want {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s = %q; want %q", name, got, value)
		}
	}
	for name, values := range r.Header {
		if strings.Contains(fmt.Sprint(values), "spoofed") {
			t.Errorf("%s = %q came through", name, values)
		}
	}
	if r.Host != "web.example:8080" {
		t.Errorf("Host = %q", r.Host)
	}
}

func TestCaseB1ClientAddressIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 loopback here: %v", err)
	}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: ln})
	r := seen(t, f, func(r *http.Request) { r.Host = "web" })
	if got := r.Header.Get("Forwarded"); got != `for="[::1]";host="web";proto=http` {
		t.Errorf("Forwarded = %s", got)
	}
	if got := r.Header.Get("X-Forwarded-For"); got != "::1" {
		t.Errorf("X-Forwarded-For = %s", got)
	}
}

func TestHopByHopFields(t *testing.T) {
	r := seen(t, openHTTP(t), func(r *http.Request) {
		r.Header.Set("Connection", "X-Hop, keep-alive")
		r.Header.Set("X-Hop", "1")
		r.Header.Set("Keep-Alive", "timeout=5")
		r.Header.Set("Proxy-Authorization", "secret")
	})
	for _, name := range []string{"X-Hop", "Keep-Alive", "Proxy-Authorization"} {
		if v, ok := r.Header[name]; ok {
			t.Errorf("%s = %q came through", name, v)
		}
	}
}

// Neither target nor coding of a request are touched.
func TestRequestIsUnchanged(t *testing.T) {
	f := openHTTP(t)
	lines := make(chan string, 1)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			var head strings.Builder
			for !strings.HasSuffix(head.String(), "\r\n\r\n") {
				s, err := r.ReadString('\n')
				if err != nil {
					return
				}
				head.WriteString(s)
			}
			lines <- head.String()
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}))
	for _, target := range []string{"/a%2Fb;p=1//c?x=1;y=%zz&z", "//double", "*", "/?", "/caf%C3%A9"} {
		c := dial(t, f)
		method := "GET"
		if target == "*" {
			method = "OPTIONS"
		}
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: web\r\n\r\n", method, target)
		head := receive(t, lines)
		if want := method + " " + target + " HTTP/1.1\r\n"; !strings.HasPrefix(head, want) {
			t.Errorf("the backend saw %q; want %q", head, want)
		}
		for _, name := range []string{"Accept-Encoding", "User-Agent"} {
			if strings.Contains(head, name) {
				t.Errorf("%s was added to %q", name, head)
			}
		}
		c.Close()
	}
}

func TestCompressionIsTheBackendsAffair(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		fmt.Fprintf(w, "not really gzip, for %q", r.Header.Get("Accept-Encoding"))
	}))
	req := request(t, http.MethodGet, f.url("/"), nil)
	req.Header.Set("Accept-Encoding", "br")
	got := do(t, req)
	if got.body != `not really gzip, for "br"` || got.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %q, %v", got.body, got.Header)
	}
}

func TestLargeHeaders(t *testing.T) {
	big := strings.Repeat("x", 200<<10)
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Back", r.Header.Get("X-Big"))
	}))
	req := request(t, http.MethodGet, f.url("/"), nil)
	req.Header.Set("X-Big", big)
	if got := do(t, req); got.Header.Get("X-Back") != big {
		t.Errorf("got %d with %d bytes back; want all %d", got.StatusCode, len(got.Header.Get("X-Back")), len(big))
	}
	c := dial(t, f)
	go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: web\r\nX-Big: %s\r\n\r\n", strings.Repeat("x", 3<<20))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %v, %v for an endless header; want 431", resp, err)
	}
}

func TestHead(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "42")
	}))
	for range 2 {
		got := do(t, request(t, http.MethodHead, f.url("/"), nil))
		if got.StatusCode != http.StatusOK || got.ContentLength != 42 || got.body != "" {
			t.Errorf("got %d, length %d, body %q", got.StatusCode, got.ContentLength, got.body)
		}
	}
}

func TestConnectIsRefused(t *testing.T) {
	f := openHTTP(t)
	c := dial(t, f)
	fmt.Fprint(c, "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusNotImplemented {
		t.Errorf("got %v, %v; want 501", resp, err)
	}
}

// The host is the client's word. Where a request has none, which HTTP/1.0 alone
// may do, it is the address that the client connected to, never the backend's.
func TestHost(t *testing.T) {
	f := openHTTP(t)
	hosts := make(chan string, 1)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		hosts <- r.Host + "|" + r.Header.Get("X-Forwarded-Host") + "|" + r.Header.Get("Forwarded")
	}))
	own := f.Addr().String()
	none := own + "||for=127.0.0.1;proto=http"
	web := `web:1|web:1|for=127.0.0.1;host="web:1";proto=http`
	for head, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: web:1\r\n":                 web,
		"GET http://web:1/ HTTP/1.1\r\nHost: other\r\n":     web,
		"GET http://web:1/ HTTP/1.1\r\nHost:\r\n":           web,
		"GET / HTTP/1.0\r\nHost: web:1\r\n":                 web,
		"GET / HTTP/1.0\r\n":                                none,
		"GET / HTTP/1.0\r\nHost:\r\n":                       none,
		"GET / HTTP/1.1\r\n":                                "",
		"GET / HTTP/1.1\r\nHost:\r\n":                       "",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n":          "",
		"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n":          "",
		"OPTIONS * HTTP/1.1\r\nHost:\r\n":                   "",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n": "a|a|" + `for=127.0.0.1;host="a";proto=http`,
	} {
		c := dial(t, f)
		io.WriteString(c, head+"\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		switch {
		case err != nil:
			t.Errorf("%q: %v", head, err)
		case want == "":
			if resp.StatusCode != http.StatusBadRequest || len(hosts) > 0 {
				t.Errorf("%q: got %d; want 400", head, resp.StatusCode)
			}
		case resp.StatusCode != http.StatusOK:
			t.Errorf("%q: got %d", head, resp.StatusCode)
		}
		if len(hosts) > 0 {
			if got := <-hosts; got != want {
				t.Errorf("%q: the backend saw %q; want %q", head, got, want)
			}
		}
		c.Close()
	}
}

func TestOtherVersions(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s came through", r.Method, r.Proto) }))
	for _, head := range []string{"PRI * HTTP/2.0\r\nHost: web\r\n\r\nSM\r\n\r\n", "GET / HTTP/2.0\r\nHost: web\r\n\r\n"} {
		c := dial(t, f)
		io.WriteString(c, head)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != http.StatusHTTPVersionNotSupported || !resp.Close {
			t.Errorf("%q: got %v, %v; want 505 and the end of the connection", head, resp, err)
			continue
		}
		io.Copy(io.Discard, resp.Body)
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("%q: after the answer %v; want EOF", head, err)
		}
	}
}
