package behaviourtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
)

// fieldCases are about header fields and targets.
func fieldCases() []Case {
	return []Case{
		{"fields", "hop-by-hop in a request", "what is meant for the proxy does not reach the backend (RFC 9110 section 7.6.1)", over1(), hopRequest},
		{"fields", "hop-by-hop in a response", "what is meant for the proxy does not reach the client (RFC 9110 section 7.6.1)", all(), hopResponse},
		{"fields", "Connection names what is needed", "a client cannot have Host, the length or the forwarding fields removed (RFC 9110 section 7.6.1)", over1(), hopAbuse},
		{"fields", "client address", "the backend learns the client's address, as X-Forwarded-For or Forwarded (RFC 7239)", all(), clientAddress},
		{"fields", "forged X-Forwarded-For", "what a client writes there is dropped, or comes before the truth in a list", all(), forged("X-Forwarded-For")},
		{"fields", "forged Forwarded", "what a client writes there is dropped (RFC 7239 section 8.1)", all(), forged("Forwarded")},
		{"fields", "forged X-Real-Ip", "what a client writes there is dropped", all(), forged("X-Real-Ip")},
		{"fields", "forged X-Forwarded-Host and -Proto", "what a client writes there is dropped", all(), forged("X-Forwarded-Host", "X-Forwarded-Proto")},
		{"fields", "forged with an underscore", "X_Forwarded_For, which CGI does not tell apart, is dropped", all(), forged("X_Forwarded_For", "X-Forwarded_for")},
		{"fields", "Host", "the backend sees the host that the client named", all(), hostPasses},
		{"fields", "Host of an absolute target", "the target's host counts, not the field (RFC 9112 section 3.2.2)", over1(), hostOfTarget},
		{"fields", "no Host", "a request of HTTP/1.1 without a host is answered with 400 (RFC 9112 section 3.2)", over1(), badHost("")},
		{"fields", "two Hosts", "a request with two hosts is answered with 400 (RFC 9112 section 3.2)", over1(), badHost("Host: a.example\r\nHost: b.example\r\n")},
		{"fields", "invalid Host", "a request whose host is none is answered with 400 (RFC 9112 section 3.2)", over1(), badHost("Host: a\"b<c>\r\n")},
		{"fields", "target", "path and query reach the backend as they were sent", all(), target},
		{"fields", "content coding", "Accept-Encoding is neither added nor changed, and bodies are not decoded", all(), coding},
		{"fields", "several fields of a name", "they stay apart and in order, Set-Cookie above all (RFC 9110 section 5.3)", all(), several},
		{"fields", "cookies in pieces", "the crumbs of a cookie are put together (RFC 9113 section 8.2.3)", over2(), crumbs},
		{"fields", "CONNECT", "a reverse proxy opens no tunnels (RFC 9110 section 9.3.6)", over1(), connect},
	}
}

// seen makes one request and returns what the backend saw of it.
func (t *T) seen(change func(*http.Request)) *http.Request {
	ch := make(chan *http.Request, 1)
	p := t.proxy(t.backend("a", func(_ http.ResponseWriter, r *http.Request) { ch <- r }).addr)
	req := t.newRequest(p, "GET", "/", nil)
	change(req)
	got := t.do(req)
	select {
	case r := <-ch:
		return r
	default:
		t.fatalf("the backend was not asked: the client got %d", got.StatusCode)
		return nil
	}
}

func hopRequest(t *T) {
	r := t.seen(func(r *http.Request) {
		r.Header.Set("Connection", "X-Hop, keep-alive, TE")
		r.Header.Set("X-Hop", "1")
		r.Header.Set("Keep-Alive", "timeout=5")
		r.Header.Set("Proxy-Connection", "keep-alive")
		r.Header.Set("TE", "deflate")
		r.Header.Set("X-Mine", "kept")
	})
	for _, name := range []string{"X-Hop", "Keep-Alive", "Proxy-Connection", "TE"} {
		if v, ok := r.Header[http.CanonicalHeaderKey(name)]; ok {
			t.errorf("%s: %q came through", name, v)
		}
	}
	if r.Header.Get("X-Mine") != "kept" {
		t.errorf("another field is lost")
	}
}

func hopResponse(t *T) {
	p := t.proxy(t.raw(answering("HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=77\r\n"+
		"Proxy-Connection: keep-alive\r\nX-Mine: kept\r\nContent-Length: 2\r\n\r\nok", false)))
	got := t.get(p, "/")
	for _, name := range []string{"X-Hop", "Proxy-Connection"} {
		if v, ok := got.Header[name]; ok {
			t.errorf("%s: %q came through", name, v)
		}
	}
	if v := got.Header.Get("Keep-Alive"); strings.Contains(v, "77") {
		t.errorf("Keep-Alive: %q came through", v)
	}
	if got.Header.Get("X-Mine") != "kept" || got.body != "ok" {
		t.errorf("got %d %q, %v", got.StatusCode, got.body, got.Header)
	}
}

func hopAbuse(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s|%s|%s|%t", r.Host, body, r.Method, tellsClient(r.Header))
	}).addr)
	c := t.dial(p)
	c.send(request("POST", "/", "Connection: Host, Content-Length, X-Forwarded-For, Forwarded, X-Real-Ip", "Content-Length: 4"), "body")
	got := t.mustAnswer(c, "POST")
	if got.StatusCode != 400 && got.body != host+"|body|POST|true" {
		t.errorf("got %d; host, body, method and whether the client is told are %s", got.StatusCode, got.body)
	}
}

// tellsClient reports whether fields say that the client is at 127.0.0.1.
func tellsClient(h http.Header) bool {
	const is = "127.0.0.1"
	list := strings.Split(strings.Join(h.Values("X-Forwarded-For"), ","), ",")
	return strings.TrimSpace(list[len(list)-1]) == is || strings.Contains(h.Get("Forwarded"), "for="+is) ||
		strings.Contains(h.Get("Forwarded"), `for="`+is)
}

func clientAddress(t *T) {
	r := t.seen(func(*http.Request) {})
	if !tellsClient(r.Header) {
		t.errorf("the backend saw %v", r.Header)
	}
}

func forged(names ...string) func(*T) {
	return func(t *T) {
		const forgery = "203.0.113.66"
		r := t.seen(func(r *http.Request) {
			for _, name := range names {
				r.Header[name] = []string{forgery}
			}
		})
		for name, values := range r.Header {
			if v := strings.Join(values, ", "); strings.Contains(v, forgery) {
				t.errorf("%s: %s came through", name, v)
			}
		}
		if !tellsClient(r.Header) {
			t.errorf("the client's own address is not there: %v", r.Header)
		}
	}
}

func hostPasses(t *T) {
	if r := t.seen(func(r *http.Request) { r.Host = "other.example:8080" }); r.Host != "other.example:8080" {
		t.errorf("the backend saw %q", r.Host)
	}
}

func hostOfTarget(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }).addr)
	c := t.dial(p)
	c.send("GET http://target.example/ HTTP/1.1\r\nHost: field.example\r\n\r\n")
	if got := t.mustAnswer(c, "GET"); got.body != "target.example" && got.StatusCode != 400 {
		t.errorf("got %d; the backend saw %q", got.StatusCode, got.body)
	}
}

func badHost(fields string) func(*T) {
	return func(t *T) {
		p := t.proxy(t.backend("a", says("a")).addr)
		c := t.dial(p)
		c.send("GET / HTTP/1.1\r\n" + fields + "\r\n")
		if got, err := c.answer("GET"); err == nil && (got.StatusCode != 400 || got.from() != "") {
			t.errorf("got %d of %q", got.StatusCode, got.from())
		}
	}
}

func target(t *T) {
	p := t.proxy(t.raw(func(_ int, c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			head, err := readHead(r)
			if err != nil {
				return
			}
			line, _, _ := strings.Cut(string(head), "\r\n")
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
		}
	}))
	for i, want := range []string{"/a%2Fb;p=1//c?x=1;y=%zz&z", "//double/../up/./here", "/?", "/caf%C3%A9", "/a%20b%22"} {
		var got, status string
		if t.front.IsHTTP2() {
			h := t.dialH2(p)
			h.ask(1, true, ":path", want)
			status = h.status(1)
			got = h.data(1)
		} else {
			c := t.dial(p)
			c.send(request("GET", want))
			r := t.mustAnswer(c, "GET")
			got, status = r.body, fmt.Sprint(r.StatusCode)
		}
		if got != "GET "+want+" HTTP/1.1" {
			t.errorf("%d, %s: got %s; the backend saw %q", i, want, status, got)
		}
	}
}

func coding(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		fmt.Fprintf(w, "not really gzip, for %q", r.Header["Accept-Encoding"])
	}).addr)
	if got := t.get(p, "/"); got.body != `not really gzip, for []` || got.Header.Get("Content-Encoding") != "gzip" {
		t.errorf("without: %d, %q", got.StatusCode, got.body)
	}
	req := t.newRequest(p, "GET", "/", nil)
	req.Header.Set("Accept-Encoding", "br;q=0.5, gzip")
	if got := t.do(req); got.body != `not really gzip, for ["br;q=0.5, gzip"]` {
		t.errorf("with: %d, %q", got.StatusCode, got.body)
	}
}

func several(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		for _, v := range r.Header["X-List"] {
			w.Header().Add("Set-Cookie", v)
		}
	}).addr)
	want := []string{"a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2", "a=3"}
	req := t.newRequest(p, "GET", "/", nil)
	req.Header["X-List"] = want
	if got := t.do(req); !slices.Equal(got.Header["Set-Cookie"], want) {
		t.errorf("got %d, %q", got.StatusCode, got.Header["Set-Cookie"])
	}
}

func crumbs(t *T) {
	ch := make(chan []string, 1)
	p := t.proxy(t.backend("a", func(_ http.ResponseWriter, r *http.Request) { ch <- r.Header["Cookie"] }).addr)
	h := t.dialH2(p)
	h.ask(1, true, "cookie", "a=1", "cookie", "b=2")
	if got := h.status(1); got != "200" {
		t.fatalf("got %s", got)
	}
	if got := <-ch; len(got) != 1 || got[0] != "a=1; b=2" {
		t.errorf("the backend saw %q", got)
	}
}

func connect(t *T) {
	p := t.proxy(t.raw(answering("HTTP/1.1 200 OK\r\n\r\n", false)))
	c := t.dial(p)
	c.send("CONNECT inner.example:22 HTTP/1.1\r\nHost: inner.example:22\r\n\r\n")
	if got, err := c.answer("CONNECT"); err == nil && got.StatusCode < 400 {
		t.errorf("got %d", got.StatusCode)
	}
}
