package behaviourtest

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// messageCases are about requests and responses that nothing is wrong with.
func messageCases() []Case {
	return []Case{
		{"messages", "keep-alive", "several requests are answered on one connection (RFC 9112 section 9.3)", over1(), keepAlive},
		{"messages", "pipelining", "requests sent at once are answered in their order (RFC 9112 section 9.3.2)", over1(), pipelining},
		{"messages", "close", "a connection ends after the answer to a request that says so (RFC 9112 section 9.6)", over1(), closes},
		{"messages", "HTTP/1.0", "a client of HTTP/1.0 gets no chunks (RFC 9112 section 6.1)", over1(), http10},
		{"messages", "empty line first", "an empty line before a request is ignored (RFC 9112 section 2.2)", over1(), emptyLine},
		{"messages", "body with a length", "a body with a length arrives whole, both ways", all(), sizedBodies},
		{"messages", "body in chunks", "a body without a length arrives whole, both ways", all(), chunkedBodies},
		{"messages", "body of a GET", "the body of a GET is a body, and no further request (RFC 9110 section 9.3.1)", over1(), bodyOfGET},
		{"messages", "trailers of a request", "the trailer fields of a request reach the backend (RFC 9110 section 6.5)", all(), requestTrailers},
		{"messages", "trailers of a response", "the trailer fields of a response reach the client (RFC 9110 section 6.5)", all(), responseTrailers},
		{"messages", "large header of a request", "a field of 48 KiB reaches the backend", all(), largeRequestHeader},
		{"messages", "large header of a response", "a field of 48 KiB reaches the client", all(), largeResponseHeader},
		{"messages", "endless header of a request", "a request whose header has no end is refused, and others are served", all(), endlessRequestHeader},
		{"messages", "HEAD", "the answer to a HEAD has its length and no body, and the connection goes on (RFC 9110 section 9.3.2)", all(), head},
		{"messages", "no content", "204 and 304 have no body, and the connection goes on (RFC 9112 section 6.3)", all(), noContent},
		{"messages", "unknown method", "a method that the proxy does not know passes (RFC 9110 section 9.1)", all(), unknownMethod},
		{"messages", "OPTIONS *", "a request for the server as a whole passes as it is (RFC 9110 section 7.1)", over1(), optionsStar},
		{"messages", "100-continue", "the client is told to go on before it sends the body (RFC 9110 section 10.1.1)", all(), expectContinue},
		{"messages", "100-continue refused", "a backend can refuse a request before its body is sent (RFC 9110 section 10.1.1)", over1(), expectRefused},
		{"messages", "early hints", "103 reaches the client before the answer (RFC 8297, RFC 9110 section 15.2)", all(), earlyHints},
		{"messages", "errors of the backend", "what a backend answers with 500 and above reaches the client as it is, and is asked once", all(), errorsPass},
	}
}

func keepAlive(t *T) {
	p := t.proxy(t.backend("a", says("a")).addr)
	c := t.dial(p)
	for range 3 {
		c.send(request("GET", "/"))
		if got := t.mustAnswer(c, "GET"); got.StatusCode != 200 || got.body != "a" {
			t.fatalf("got %d %q", got.StatusCode, got.body)
		}
	}
}

func pipelining(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }).addr)
	c := t.dial(p)
	c.send(request("GET", "/1"), request("GET", "/2"), request("GET", "/3"))
	for i := 1; i <= 3; i++ {
		if got := t.mustAnswer(c, "GET"); got.body != fmt.Sprint("/", i) {
			t.fatalf("answer %d is %d %q", i, got.StatusCode, got.body)
		}
	}
}

func closes(t *T) {
	p := t.proxy(t.backend("a", says("a")).addr)
	c := t.dial(p)
	c.send(request("GET", "/", "Connection: close"))
	if got := t.mustAnswer(c, "GET"); got.StatusCode != 200 || !got.Close {
		t.errorf("got %d, which says that the connection ends: %v", got.StatusCode, got.Close)
	}
	if !c.ends(2 * time.Second) {
		t.errorf("the connection goes on")
	}
}

func http10(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "one ")
		w.(http.Flusher).Flush()
		io.WriteString(w, "two")
	}).addr)
	c := t.dial(p)
	c.send("GET / HTTP/1.0\r\nHost: web\r\n\r\n")
	got := t.mustAnswer(c, "GET")
	if len(got.TransferEncoding) > 0 || got.body != "one two" {
		t.errorf("got %d %q in transfer coding %q", got.StatusCode, got.body, got.TransferEncoding)
	}
}

func emptyLine(t *T) {
	p := t.proxy(t.backend("a", says("a")).addr)
	c := t.dial(p)
	c.send("\r\n", request("GET", "/"))
	if got := t.mustAnswer(c, "GET"); got.StatusCode != 200 {
		t.errorf("got %d", got.StatusCode)
	}
}

// random returns bytes, always the same, and their digest.
func random(n int) ([]byte, [32]byte) {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b, sha256.Sum256(b)
}

func sizedBodies(t *T) {
	body, sum := random(1 << 20)
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(body)) || sha256.Sum256(got) != sum {
			t.errorf("the backend got %d bytes of a body of length %d, error %v", len(got), r.ContentLength, err)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(got)))
		w.Write(got)
	}).addr)
	req := t.newRequest(p, "PUT", "/", strings.NewReader(string(body)))
	if got := t.do(req); got.ContentLength != int64(len(body)) || got.body != string(body) {
		t.errorf("the client got %d, %d bytes of a body of length %d", got.StatusCode, len(got.body), got.ContentLength)
	}
}

func chunkedBodies(t *T) {
	body, sum := random(300_000)
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || sha256.Sum256(got) != sum {
			t.errorf("the backend got %d bytes, error %v", len(got), err)
		}
		for len(got) > 0 {
			n := min(len(got), 70_001)
			w.Write(got[:n])
			w.(http.Flusher).Flush()
			got = got[n:]
		}
	}).addr)
	got := t.do(t.newRequest(p, "POST", "/", io.NopCloser(strings.NewReader(string(body)))))
	if got.StatusCode != 200 || got.body != string(body) {
		t.errorf("the client got %d, %d bytes", got.StatusCode, len(got.body))
	}
}

func bodyOfGET(t *T) {
	hidden := request("GET", "/hidden")
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	}).addr)
	c := t.dial(p)
	c.send(request("GET", "/", fmt.Sprintf("Content-Length: %d", len(hidden))), hidden, request("GET", "/next"))
	if got := t.mustAnswer(c, "GET"); got.body != "/ "+hidden {
		t.fatalf("got %d %q", got.StatusCode, got.body)
	}
	if got := t.mustAnswer(c, "GET"); got.body != "/next " {
		t.errorf("then %d %q", got.StatusCode, got.body)
	}
}

func requestTrailers(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s, %v, sum %q", body, err, r.Trailer["X-Sum"])
	}).addr)
	req := t.newRequest(p, "POST", "/", io.NopCloser(strings.NewReader("body")))
	req.Trailer = http.Header{"X-Sum": {"42"}}
	if got := t.do(req); got.body != `body, <nil>, sum ["42"]` {
		t.errorf("the backend got: %s (status %d)", got.body, got.StatusCode)
	}
}

func responseTrailers(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "43")
	}).addr)
	req := t.newRequest(p, "GET", "/", nil)
	req.Header.Set("TE", "trailers")
	if got := t.do(req); got.body != "body" || got.Trailer.Get("X-Sum") != "42" || got.Trailer.Get("X-Late") != "43" {
		t.errorf("got %d %q, trailers %v", got.StatusCode, got.body, got.Trailer)
	}
}

const largeField = 48 << 10

func largeRequestHeader(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.Header.Get("X-Large")))
	}).addr)
	req := t.newRequest(p, "GET", "/", nil)
	req.Header.Set("X-Large", strings.Repeat("x", largeField))
	if got := t.do(req); got.body != fmt.Sprint(largeField) {
		t.errorf("got %d %q", got.StatusCode, got.body)
	}
}

func largeResponseHeader(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("x", largeField))
	}).addr)
	if got := t.get(p, "/"); len(got.Header.Get("X-Large")) != largeField {
		t.errorf("got %d, %d bytes", got.StatusCode, len(got.Header.Get("X-Large")))
	}
}

func endlessRequestHeader(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {}).addr)
	if t.front.IsHTTP2() {
		h := t.dialH2(p)
		sent := h.endlessHeader()
		if !h.ends(patience) {
			t.errorf("the connection goes on")
		}
		h.c.Close()
		<-sent
	} else {
		c := t.dial(p)
		c.send("GET / HTTP/1.1\r\nHost: web\r\n")
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for line := "X-More: " + strings.Repeat("x", 4000) + "\r\n"; ; {
				if _, err := io.WriteString(c, line); err != nil {
					return
				}
			}
		}()
		if got, err := c.answer("GET"); err == nil && got.StatusCode < 400 {
			t.errorf("got %d", got.StatusCode)
		}
		c.Close()
		<-sent
	}
	if got := t.get(p, "/"); got.StatusCode != 200 {
		t.errorf("afterwards: %d", got.StatusCode)
	}
}

func head(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "42")
		if r.Method == "GET" {
			io.WriteString(w, strings.Repeat("x", 42))
		}
	}).addr)
	client := t.client()
	for _, method := range []string{"HEAD", "GET", "HEAD"} {
		got, err := tryOn(client, t.newRequest(p, method, "/", nil))
		if err != nil || got.ContentLength != 42 || (len(got.body) == 42) != (method == "GET") {
			t.fatalf("%s: %v, %v", method, got, err)
		}
	}
}

func noContent(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		default:
			io.WriteString(w, "body")
		}
	}).addr)
	client := t.client()
	for _, want := range []int{204, 304, 200} {
		got, err := tryOn(client, t.newRequest(p, "GET", fmt.Sprint("/", want), nil))
		if err != nil || got.StatusCode != want || (got.body == "") != (want != 200) {
			t.fatalf("%d: %v, %v", want, got, err)
		}
	}
}

func unknownMethod(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method) }).addr)
	if got := t.do(t.newRequest(p, "BREW", "/", nil)); got.body != "BREW" {
		t.errorf("got %d %q", got.StatusCode, got.body)
	}
}

func optionsStar(t *T) {
	p := t.proxy(t.raw(func(_ int, c *net.TCPConn) {
		head, err := readHead(bufio.NewReader(c))
		line, _, _ := strings.Cut(string(head), "\r\n")
		if err == nil {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
		}
	}))
	c := t.dial(p)
	c.send(request("OPTIONS", "*"))
	if got := t.mustAnswer(c, "OPTIONS"); got.body != "OPTIONS * HTTP/1.1" {
		t.errorf("got %d; the backend saw %q", got.StatusCode, got.body)
	}
}

func expectContinue(t *T) {
	p := t.proxy(t.backend("a", echoes).addr)
	if t.front.IsHTTP2() {
		req := t.newRequest(p, "PUT", "/", strings.NewReader("body"))
		req.Header.Set("Expect", "100-continue") // the client waits for it as long as it has patience
		if got := t.do(req); got.body != "body" {
			t.errorf("got %d %q", got.StatusCode, got.body)
		}
		return
	}
	c := t.dial(p)
	c.send(request("PUT", "/", "Content-Length: 4", "Expect: 100-continue"))
	line, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.fatalf("got %q, %v before the body", line, err)
	}
	for line != "\r\n" {
		if line, err = c.r.ReadString('\n'); err != nil {
			t.fatalf("in the header of 100: %v", err)
		}
	}
	c.send("body")
	if got := t.mustAnswer(c, "PUT"); got.StatusCode != 200 || got.body != "body" {
		t.errorf("got %d %q", got.StatusCode, got.body)
	}
}

func expectRefused(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusExpectationFailed) }).addr)
	c := t.dial(p)
	c.send(request("PUT", "/", "Content-Length: 4", "Expect: 100-continue"))
	if got := t.mustAnswer(c, "PUT"); got.StatusCode != http.StatusExpectationFailed {
		t.errorf("got %d", got.StatusCode)
	}
}

func earlyHints(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "page")
	}).addr)
	var hints []string
	req := t.newRequest(p, "GET", "/", nil)
	got := t.do(req.WithContext(onHints(req.Context(), &hints)))
	if got.body != "page" || len(hints) != 1 || hints[0] != "103 </style.css>" {
		t.errorf("got %d %q after hints %q", got.StatusCode, got.body, hints)
	}
}

func errorsPass(t *T) {
	var mu sync.Mutex
	asked := 0
	fails := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked++
		mu.Unlock()
		w.Header().Set("Retry-After", "77")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "my own words")
	}
	p := t.proxy(t.backend("a", fails).addr, t.backend("b", fails).addr)
	got := t.do(t.newRequest(p, "POST", "/", strings.NewReader("body")))
	if got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") != "77" || got.body != "my own words" {
		t.errorf("got %d %q", got.StatusCode, got.body)
	}
	mu.Lock()
	defer mu.Unlock()
	if asked != 1 {
		t.errorf("backends were asked %d times", asked)
	}
}

// isTimeout reports whether an error is the end of the suite's patience.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
