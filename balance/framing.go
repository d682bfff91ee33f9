package balance

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// errFraming: where a request ends is not beyond doubt.
var errFraming = errors.New("the request can be read in more than one way")

// The states of a framing.
const (
	framingBetween   = iota // before a request line
	framingHead             // in a header, the request line included
	framingBody             // in a body of known length
	framingSize             // in the line with a chunk's size
	framingChunk            // in a chunk
	framingChunkEnd         // in the line break behind it
	framingTrailer          // behind the last chunk
	framingUndecided        // behind a request that may switch to another protocol
	framingThrough          // that is not HTTP/1.1 any more
)

// maxEmptyLines is how many empty line breaks before a request are passed over: RFC
// 9112 section 2.2.
const maxEmptyLines = 4

// keptFramingLine is how much room for lines that come in parts a connection keeps.
const keptFramingLine = 256

// framing follows the requests of one connection of HTTP/1.1, byte by byte as they
// come, beside http.Server, which parses them. It ends a connection where a message
// has both a length and chunks, or chunks in HTTP/1.0, which http.Server takes in
// silence (RFC 9112 section 6.1: such a connection has to end, for whoever sent this
// may be smuggling a request past one who reads it the other way), and where chunks
// are not written exactly as section 7.1 wants. All else it leaves to http.Server, of
// which it is stricter or of the same opinion everywhere. The zero value is before the
// first request.
type framing struct {
	state int
	err   error
	h2    bool // HTTP/2 was negotiated: nothing else may come
	heads int  // headers that ended
	empty int  // bytes of empty lines before this request
	rest  uint64
	line  []byte // what has come of a line that comes in parts

	first, old               bool // in the request line; of HTTP/1.0
	sized, chunked, switches bool // by the fields so far
	length                   uint64
	framed                   bool   // the last field was one of those
	held                     []byte // what came while it was undecided
}

// maxHeld is how much a client may send after it asked for another protocol, before
// the answer. It has no reason to send anything.
const maxHeld = 64 << 10

// filter looks at what came and returns how much of it, from the beginning of p,
// is to be passed on. It may move bytes within p. Once err is set the connection
// has no future.
func (g *framing) filter(p []byte) int {
	w := 0
	for r := 0; r < len(p) && g.err == nil; {
		n, drop := g.take(p[r:])
		if g.err != nil && g.state == framingHead {
			// http.Server answers with 400 where reading a header fails, but gives up
			// in a body: there it has to see for itself, and no further.
			break
		}
		if !drop {
			if w != r {
				copy(p[w:], p[r:r+n])
			}
			w += n
		}
		r += n
	}
	return w
}

// take looks at the beginning of p, and returns how much of it that was and whether
// it is not to be passed on.
func (g *framing) take(p []byte) (n int, drop bool) {
	switch g.state {
	case framingBetween:
		if (p[0] == '\r' || p[0] == '\n') && g.empty < maxEmptyLines {
			g.empty++
			return 1, true
		}
		*g = framing{state: framingHead, heads: g.heads, line: g.line[:0], first: true, held: g.held, h2: g.h2}
		return 0, false
	case framingBody, framingChunk:
		n := int(min(g.rest, uint64(len(p))))
		if g.rest -= uint64(n); g.rest == 0 {
			g.endOfData()
		}
		return n, false
	case framingUndecided:
		if len(g.held)+len(p) > maxHeld {
			g.err = errFraming
		}
		g.held = append(g.held, p...)
		return len(p), true
	case framingThrough:
		return len(p), false
	}
	return g.takeLine(p), false
}

// endOfData follows a body or a chunk.
func (g *framing) endOfData() {
	if g.state == framingChunk {
		g.state = framingChunkEnd
		return
	}
	g.endOfRequest()
}

func (g *framing) endOfRequest() {
	g.state, g.empty = framingBetween, 0
	if g.switches {
		g.state = framingUndecided
	}
}

// takeLine looks at the beginning of p, to the end of the line at most.
func (g *framing) takeLine(p []byte) int {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		// All of it: a length may have any number of blanks before it. http.Server
		// bounds what it reads of a header, and of a line in a body.
		g.line = append(g.line, p...)
		return len(p)
	}
	line := p[:i+1]
	if len(g.line) > 0 {
		g.line = append(g.line, line...)
		line = g.line
	}
	g.endLine(line)
	if g.line = g.line[:0]; cap(g.line) > keptFramingLine {
		g.line = nil
	}
	return i + 1
}

// endLine looks at a line, with its break.
func (g *framing) endLine(line []byte) {
	text, exact := bytes.CutSuffix(line, []byte("\r\n"))
	if !exact {
		text = line[:len(line)-1]
	}
	if g.state != framingHead && !exact {
		g.err = errFraming
		return
	}
	switch g.state {
	case framingHead:
		g.headLine(text)
	case framingSize:
		g.sizeLine(text)
	case framingChunkEnd:
		if g.state = framingSize; len(text) > 0 {
			g.err = errFraming
		}
	case framingTrailer:
		if len(text) == 0 {
			g.endOfRequest()
		}
	}
}

var prefaceLine = []byte("PRI * HTTP/2.0")

// headLine looks at a line of a header, without its break.
func (g *framing) headLine(text []byte) {
	switch {
	case g.first:
		g.first, g.old = false, bytes.HasSuffix(text, []byte("HTTP/1.0"))
		if bytes.Equal(text, prefaceLine) {
			g.state = framingThrough
		} else if g.h2 {
			g.err = io.EOF // RFC 9113 section 3.4
		}
	case len(text) == 0:
		g.endOfHead()
	case text[0] == ' ' || text[0] == '\t':
		if g.framed { // goes on in another line
			g.err = errFraming
		}
	default:
		name, value, _ := bytes.Cut(text, []byte(":"))
		g.field(name, bytes.Trim(value, " \t"))
	}
}

// field looks at a field of a header.
func (g *framing) field(name, value []byte) {
	g.framed = false
	switch len(name) {
	case len("Content-Length"):
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			return
		}
		n, err := strconv.ParseUint(string(value), 10, 63)
		if err != nil || g.chunked || g.sized && n != g.length {
			g.err = errFraming
		}
		g.framed, g.sized, g.length = true, true, n
	case len("Transfer-Encoding"):
		if !bytes.EqualFold(name, []byte("Transfer-Encoding")) {
			return
		}
		if g.sized || g.old {
			g.err = errFraming
		}
		g.framed, g.chunked = true, true // http.Server knows no other coding
	case len("Upgrade"):
		g.switches = g.switches || bytes.EqualFold(name, []byte("Upgrade"))
	}
}

func (g *framing) endOfHead() {
	g.heads++
	switch {
	case g.chunked:
		g.state = framingSize
	case g.length > 0:
		g.state, g.rest = framingBody, g.length
	default:
		g.endOfRequest()
	}
}

// sizeLine looks at the size of a chunk, with its extensions, which nobody needs.
func (g *framing) sizeLine(text []byte) {
	size, _, _ := bytes.Cut(text, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimRight(size, " \t")), 16, 63)
	switch {
	case err != nil || bytes.ContainsAny(text, "\r\x00") || size[0] == '+' || bytes.IndexByte(size, '_') >= 0:
		g.err = errFraming
	case n == 0:
		g.state = framingTrailer
	default:
		g.state, g.rest = framingChunk, n
	}
}

// decide says what became of a wish for another protocol.
func (g *framing) decide(switched bool) {
	if switched {
		g.state = framingThrough
	} else if g.state == framingUndecided {
		g.state = framingBetween
	} else {
		// It was refused before the end of its body, behind which nobody decides.
		g.switches = false
	}
}
