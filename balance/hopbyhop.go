package balance

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// hopByHop are the fields that no proxy passes on, besides those that Connection names:
// RFC 9110 section 7.6.1.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

// dropHopByHop drops them from the head of an informational response. Of other messages
// ReverseProxy does that. A client of HTTP/2 takes one with them for malformed.
func dropHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// answerHead follows the head of the answer on a connection to a backend, behind those of
// informational ones. http.Transport takes the whole Connection field away where that says
// close, and with it the names of other fields that are hop by hop. Its methods may be
// called concurrently.
type answerHead struct {
	mu      sync.Mutex
	on      bool // the head has not ended
	first   bool // the next line is a status line
	interim bool
	line    []byte // what has come of a line that comes in parts
	options []byte // the values of Connection
}

// begin says that the next that comes is an answer.
func (a *answerHead) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.on, a.first, a.line, a.options = true, true, nil, nil
}

// see looks at what has come. http.Transport bounds how much that is.
func (a *answerHead) see(p []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(p) > 0 && a.on {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			a.line = append(a.line, p...)
			return
		}
		line := p[:i]
		if len(a.line) > 0 {
			line = append(a.line, line...)
			a.line = nil
		}
		a.endLine(bytes.TrimSuffix(line, []byte("\r")))
		p = p[i+1:]
	}
}

// endLine looks at a line, without its break.
func (a *answerHead) endLine(text []byte) {
	switch {
	case a.first:
		_, status, _ := bytes.Cut(text, []byte(" "))
		status = bytes.TrimLeft(status, " ")
		a.first, a.interim = false, bytes.HasPrefix(status, []byte("1")) && !bytes.HasPrefix(status, []byte("101"))
	case len(text) > 0:
		if name, value, _ := bytes.Cut(text, []byte(":")); bytes.EqualFold(name, []byte("Connection")) {
			a.options = append(append(a.options, value...), ',')
		}
	case a.interim:
		a.first, a.options = true, nil
	default:
		a.on = false
	}
}

// restore puts Connection back into the header of an answer that has begun, where there is
// more to it than close.
func (a *answerHead) restore(h http.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := h["Connection"]; !ok && bytes.Count(a.options, []byte(",")) > 1 {
		h["Connection"] = []string{string(a.options)}
	}
}

// maxForwards is how many proxies a request may still pass, where it says so and is of a
// method that minds it: RFC 9110 section 7.6.2.
func maxForwards(r *http.Request) (n uint64, ok bool) {
	values := r.Header["Max-Forwards"]
	if len(values) != 1 || r.Method != http.MethodOptions && r.Method != http.MethodTrace {
		return 0, false
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	return n, err == nil
}
