package behaviourtest

import (
	"slices"
	"strconv"
	"time"
)

// h2Shape is a request over HTTP/2 that is malformed (RFC 9113 section 8.1.1), or
// that would become another one over HTTP/1.1.
type h2Shape struct {
	name, demand string
	fields       []string
	data         string // with it the stream does not end with the header
}

const h2Refused = "is refused, and reaches no backend; "

func h2Shapes() []Case {
	shapes := []h2Shape{
		{"name in capitals", "RFC 9113 section 8.2.1", []string{"X-Mine", "a"}, ""},
		{"Connection", "RFC 9113 section 8.2.2", []string{"connection", "x-mine"}, ""},
		{"Transfer-Encoding", "RFC 9113 section 8.2.2", []string{"transfer-encoding", "chunked"}, "0\r\n\r\n" + request("GET", "/hidden")},
		{"TE other than trailers", "RFC 9113 section 8.2.2", []string{"te", "gzip"}, ""},
		{"body longer than its length", "RFC 9113 section 8.1.1", []string{":method", "POST", "content-length", "2"}, "hello"},
		{"body shorter than its length", "RFC 9113 section 8.1.1", []string{":method", "POST", "content-length", "7"}, "hello"},
		{"two lengths", "RFC 9113 section 8.1.1", []string{":method", "POST", "content-length", "5", "content-length", "7"}, "hello"},
		{"line break in a value", "RFC 9113 section 8.2.1", []string{"x-mine", "a\r\ntransfer-encoding: chunked"}, ""},
		{"line break in a name", "RFC 9113 section 8.2.1", []string{"x-mine: a\r\nx-other", "b"}, ""},
		{"colon in a name", "RFC 9113 section 8.2.1", []string{"x-mine:a", "b"}, ""},
		{"blank in a name", "RFC 9113 section 8.2.1", []string{"x mine", "b"}, ""},
		{"line break in the path", "RFC 9113 section 8.3.1", []string{":path", "/ HTTP/1.1\r\nx-mine: a\r\n"}, ""},
		{"blank in the path", "RFC 9112 section 3.2", []string{":path", "/a HTTP/1.1"}, ""},
		{"line break in the method", "RFC 9113 section 8.3.1", []string{":method", "GET / HTTP/1.1\r\nx-mine: a\r\n\r\nGET"}, ""},
		{"line break in the authority", "RFC 9113 section 8.3.1", []string{":authority", "a\r\nx-mine: a"}, ""},
		{"no path", "RFC 9113 section 8.3.1", []string{":path", ""}, ""},
		{"no method", "RFC 9113 section 8.3.1", []string{":method", ""}, ""},
		{"unknown pseudo-header field", "RFC 9113 section 8.3", []string{":mine", "a"}, ""},
		{"two hosts", "RFC 9113 section 8.3.1", []string{"host", "other.example"}, ""},
		{"pseudo-header field after another", "RFC 9113 section 8.3", []string{"x-mine", "a", ":status", "200"}, ""},
	}
	var cases []Case
	for _, s := range shapes {
		cases = append(cases, Case{"malformed requests", "HTTP/2: " + s.name, h2Refused + s.demand, over2(), s.run})
	}
	return cases
}

func (s h2Shape) run(t *T) {
	rec := t.record()
	p := t.proxy(rec.addr)
	h := t.dialH2(p)
	h.c.SetReadDeadline(time.Now().Add(5 * time.Second))
	h.ask(1, s.data == "", s.fields...)
	if s.data != "" {
		h.WriteData(1, true, []byte(s.data))
	}
	got := h.status(1)
	if n, err := strconv.Atoi(got); err == nil && n < 400 || got == "silence" {
		t.errorf("it is not refused: %s, and the backend saw %s", got, rec)
		return
	}
	if slices.ContainsFunc(rec.all(), func(r recorded) bool { return r.req != nil }) {
		t.errorf("it is answered with %s, but the backend saw %s", got, rec)
	}
}
