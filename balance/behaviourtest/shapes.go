package behaviourtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// shape is a request whose beginning and end two parsers can see differently.
type shape struct {
	name, demand string
	// lines are the header after the request line and Host. A line break is added
	// at the end.
	lines string
	// body follows, and the request for what is hidden behind it.
	body string
	// tolerated: the rules allow a server to make sense of it. Then the backend
	// has to get exactly one request, of one unmistakable form.
	tolerated bool
	// ends: if it is tolerated, the connection has to end after the answer.
	ends bool
	// line is the request line where it is not the usual one.
	line string
}

const (
	chunkedBody = "5\r\nhello\r\n0\r\n\r\n"
	sizedBody   = "hello"
	te          = "Transfer-Encoding: chunked\r\n"
	cl          = "Content-Length: 5\r\n"
	refused     = "is refused, and the connection ends; "
	orOne       = "is refused, or passed on in one form and nothing behind it; "
)

// shapes of headers, by the rules of RFC 9112 and 9110.
var headerShapes = []shape{
	{"length and chunks", orOne + "the connection ends (RFC 9112 section 6.1)", cl + te, "0\r\n\r\n", true, true, ""},
	{"chunks and length", orOne + "the connection ends (RFC 9112 section 6.1)", te + "Content-Length: 0\r\n", "0\r\n\r\n", true, true, ""},
	{"two lengths", refused + "RFC 9112 section 6.3", "Content-Length: 0\r\n" + cl, sizedBody, false, false, ""},
	{"list of two lengths", refused + "RFC 9112 section 6.3", "Content-Length: 0, 5\r\n", sizedBody, false, false, ""},
	{"same length twice", orOne + "RFC 9112 section 6.3", cl + cl, sizedBody, true, false, ""},
	{"list of the same length", orOne + "RFC 9112 section 6.3", "Content-Length: 5, 5\r\n", sizedBody, true, false, ""},
	{"length with a sign", refused + "RFC 9112 section 6.3", "Content-Length: +5\r\n", sizedBody, false, false, ""},
	{"negative length", refused + "RFC 9112 section 6.3", "Content-Length: -5\r\n", sizedBody, false, false, ""},
	{"hexadecimal length", refused + "RFC 9112 section 6.3", "Content-Length: 0x5\r\n", sizedBody, false, false, ""},
	{"length of two words", refused + "RFC 9112 section 6.3", "Content-Length: 5 5\r\n", sizedBody, false, false, ""},
	{"empty length", refused + "RFC 9112 section 6.3", "Content-Length:\r\n", "", false, false, ""},
	{"length beyond 64 bits", refused + "RFC 9110 section 8.6", "Content-Length: 18446744073709551621\r\n", sizedBody, false, false, ""},
	{"unknown transfer coding", refused + "RFC 9112 section 6.1", "Transfer-Encoding: xchunked\r\n", chunkedBody, false, false, ""},
	{"transfer coding identity", refused + "RFC 9112 sections 6.1 and 7", "Transfer-Encoding: identity\r\n" + cl, sizedBody, false, false, ""},
	{"chunked not last", refused + "RFC 9112 section 6.3", "Transfer-Encoding: chunked, identity\r\n", chunkedBody, false, false, ""},
	{"chunked twice", refused + "RFC 9112 section 6.1", te + te, chunkedBody, false, false, ""},
	{"chunked twice in a list", refused + "RFC 9112 section 6.1", "Transfer-Encoding: chunked, chunked\r\n", chunkedBody, false, false, ""},
	{"quoted transfer coding", refused + "RFC 9112 section 7", "Transfer-Encoding: \"chunked\"\r\n", chunkedBody, false, false, ""},
	{"transfer coding behind a control character", refused + "RFC 9110 section 5.5", "Transfer-Encoding: \x0bchunked\r\n", chunkedBody, false, false, ""},
	{"NUL in a value", refused + "RFC 9110 section 5.5", "X-Mine: a\x00b\r\n", "", false, false, ""},
	{"NUL in a name", refused + "RFC 9110 section 5.1", "X-\x00Mine: a\r\n", "", false, false, ""},
	{"blank before the colon", refused + "RFC 9112 section 5.1", "Transfer-Encoding : chunked\r\n" + cl, chunkedBody, false, false, ""},
	{"blank in a name", refused + "RFC 9110 section 5.1", "Transfer Encoding: chunked\r\n" + cl, sizedBody, false, false, ""},
	{"blank before the first field", orOne + "RFC 9112 section 2.2", "", "", true, false, "GET / HTTP/1.1\r\n X-Mine: a"},
	{"folded line", orOne + "RFC 9112 section 5.2", "X-Mine: a\r\n b\r\n", "", true, false, ""},
	{"transfer coding in a folded line", orOne + "RFC 9112 section 5.2", "Transfer-Encoding:\r\n chunked\r\n", chunkedBody, true, false, ""},
	{"length in a folded line", orOne + "RFC 9112 section 5.2", "X-Mine: a\r\n Content-Length: 5\r\n", "", true, false, ""},
	{"bare LF", orOne + "RFC 9112 section 2.2", "X-Mine: a\n" + te, chunkedBody, true, false, ""},
	{"bare CR", orOne + "RFC 9112 section 2.2", "X-Mine: a\rTransfer-Encoding: chunked\r\n", "", true, false, ""},
	{"line without a colon", refused + "RFC 9112 section 5", "X-Mine\r\n", "", false, false, ""},
	{"field without a name", refused + "RFC 9112 section 5", ": a\r\n", "", false, false, ""},
	{"HTTP/1.0 with chunks", orOne + "the connection ends (RFC 9112 section 6.1)", "Connection: keep-alive\r\n" + te, chunkedBody, true, true, "POST / HTTP/1.0"},
	{"blank in the target", refused + "RFC 9112 section 3.2", "", "", false, false, "GET /a b HTTP/1.1"},
	{"control character in the target", refused + "RFC 9112 section 3.2", "", "", false, false, "GET /a\x01b HTTP/1.1"},
	{"invalid method", refused + "RFC 9110 section 9.1", "", "", false, false, "G(T / HTTP/1.1"},
	{"invalid version", refused + "RFC 9112 section 2.3", "", "", false, false, "GET / HTTP/1.1.1"},
	{"version of another protocol", refused + "RFC 9112 section 2.3", "", "", false, false, "GET / HTP/1.1"},
}

// bodyShapes are malformed chunks: RFC 9112 section 7.1.
var bodyShapes = []shape{
	{"chunk size with a prefix", refused + "RFC 9112 section 7.1", te, "0x5\r\nhello\r\n0\r\n\r\n", false, false, ""},
	{"chunk size with a sign", refused + "RFC 9112 section 7.1", te, "+5\r\nhello\r\n0\r\n\r\n", false, false, ""},
	{"negative chunk size", refused + "RFC 9112 section 7.1", te, "-5\r\nhello\r\n0\r\n\r\n", false, false, ""},
	{"chunk size that is no number", refused + "RFC 9112 section 7.1", te, "5g\r\nhello\r\n0\r\n\r\n", false, false, ""},
	{"empty chunk size", refused + "RFC 9112 section 7.1", te, "\r\nhello\r\n0\r\n\r\n", false, false, ""},
	{"chunk size beyond 64 bits", refused + "RFC 9112 section 7.1", te, "10000000000000005\r\nhello\r\n0\r\n\r\n", false, false, ""},
	{"bare LF after a chunk size", refused + "RFC 9112 section 7.1", te, "5\nhello\r\n0\r\n\r\n", false, false, ""},
	{"bare LF after a chunk", refused + "RFC 9112 section 7.1", te, "5\r\nhello\n0\r\n\r\n", false, false, ""},
	{"bare LF in a chunk extension", refused + "RFC 9112 section 7.1.1", te, "5;a\nb\r\nhello\r\n0\r\n\r\n", false, false, ""},
	{"chunk longer than its size", refused + "RFC 9112 section 7.1", te, "5\r\nhelloworld\r\n0\r\n\r\n", false, false, ""},
	{"chunk shorter than its size", refused + "RFC 9112 section 7.1", te, "5\r\nhell\r\n0\r\n\r\n", false, false, ""},
	{"malformed trailer", refused + "RFC 9112 section 7.1.2", te, "5\r\nhello\r\n0\r\nno colon\r\n\r\n", false, false, ""},
}

func requestShapes() []Case {
	var cases []Case
	for _, s := range headerShapes {
		cases = append(cases, Case{"malformed requests", s.name, s.demand, over1(), s.run})
	}
	for _, s := range bodyShapes {
		cases = append(cases, Case{"malformed requests", s.name, s.demand, over1(), s.run})
	}
	return append(cases, h2Shapes()...)
}

// text is the whole request, with another one behind it.
func (s shape) text() string {
	line := s.line
	if line == "" {
		line = "POST / HTTP/1.1"
	}
	return line + "\r\nHost: " + host + "\r\n" + s.lines + "\r\n" + s.body + request("GET", "/hidden")
}

// recorder is a backend that keeps what it gets.
type recorder struct {
	addr string
	mu   sync.Mutex
	got  []recorded
}

// recorded is a request that came in whole.
type recorded struct {
	head, body []byte
	req        *http.Request
}

// record starts a recorder.
func (t *T) record() *recorder {
	rec := &recorder{}
	rec.addr = t.raw(func(_ int, c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			head, err := readHead(r)
			if err != nil {
				return
			}
			// Its own reader: what is in the head cannot be read twice.
			req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), &byByte{r})))
			if err != nil {
				rec.add(recorded{head: head})
				io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return // it never was whole
			}
			rec.add(recorded{head, body, req})
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
	})
	return rec
}

// byByte reads no more than is asked for by whoever buffers it.
type byByte struct{ r *bufio.Reader }

func (b *byByte) Read(p []byte) (int, error) {
	if len(p) > 1 {
		p = p[:1]
	}
	return b.r.Read(p)
}

func (r *recorder) add(x recorded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, x)
}

func (r *recorder) all() []recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]recorded(nil), r.got...)
}

// run sends the shape and sees whether it is refused, or what became of it.
func (s shape) run(t *T) {
	rec := t.record()
	p := t.proxy(rec.addr)
	c := t.dial(p)
	c.send(s.text())
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	got, err := c.answer("POST")
	switch {
	case err != nil && isTimeout(err):
		t.errorf("no answer came; the backend saw %s", rec)
		return
	case err != nil:
		// Closed without a word: refused, if nothing got through.
	case got.StatusCode >= 400:
		if len(rec.all()) == 0 {
			if !c.ends(2 * time.Second) {
				t.errorf("it is refused with %d, but the connection goes on", got.StatusCode)
			}
			return
		}
	}
	seen := rec.all()
	if err != nil && len(seen) == 0 {
		return
	}
	if !s.tolerated {
		status := "no answer"
		if err == nil {
			status = fmt.Sprint(got.StatusCode)
		}
		t.errorf("it is not refused: %s, and the backend saw %s", status, rec)
		return
	}
	ended := c.ends(time.Second)
	if seen = rec.all(); len(seen) > 1 && !s.ends {
		seen = seen[:1] // the rest is a request of its own by these rules
	}
	if problem := s.judge(seen); problem != "" {
		t.errorf("%s: the backend saw %s", problem, rec)
	} else if s.ends && !ended {
		t.errorf("it is passed on, and the connection goes on")
	}
}

// judge says what is wrong with what the backend got of a tolerated shape.
func (s shape) judge(seen []recorded) string {
	if len(seen) != 1 {
		return fmt.Sprintf("%d requests instead of one came through", len(seen))
	}
	r := seen[0]
	if r.req == nil {
		return "what came through is not HTTP"
	}
	head := strings.ToLower(string(r.head))
	if strings.Contains(head, "\ncontent-length") && strings.Contains(head, "\ntransfer-encoding") {
		return "the ambiguity came through"
	}
	if strings.Contains(strings.ReplaceAll(head, "\r\n", ""), "\n") || strings.Contains(head, "\n ") {
		return "the line break came through"
	}
	// The body by the rule that the form of the request has, and none of it hidden.
	if strings.Contains(string(r.body), "hidden") || r.req.URL.Path == "/hidden" {
		return "what was hidden behind it came through"
	}
	return ""
}

// String says what came through.
func (r *recorder) String() string {
	var b strings.Builder
	for _, x := range r.all() {
		fmt.Fprintf(&b, "%.300q with body %.100q; ", x.head, x.body)
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return strings.TrimSuffix(b.String(), "; ")
}
