package http1

import (
	"bytes"
	"errors"
)

// ErrChunks is that of a chunked body that is none.
var ErrChunks = errors.New("the chunks of the body are not valid")

// maxChunkLine is how long a line with the size of a chunk may be, about as in
// net/http.
const maxChunkLine = 4000

// Chunks follows a chunked body (RFC 9112 section 7.1) that is passed on as it is, but
// for what servers write behind the sizes: blanks, which some fill up the room for
// digits with, and extensions, which nobody needs.
// The zero value stands at its beginning.
type Chunks struct {
	state int
	left  int64 // bytes of the chunk; while its size is read, that so far
	data  int64 // bytes of all chunks so far
	digit int   // of its size
	line  int   // bytes of its line
}

// The states.
const (
	inSize   = iota
	inBlanks // behind the digits
	inExtension
	inSizeEnd // CR was there
	inData
	inDataEnd // a CR follows
	inDataEndLF
	inTrailer
)

// Scan follows the bytes p, which come next. The first n of them belong to the body up
// to the end of its last chunk; InTrailer then says whether that was reached. What of
// these is to be passed on is moved to the beginning of p, where it has kept bytes.
func (c *Chunks) Scan(p []byte) (n, kept int, err error) {
	for n < len(p) && c.state != inTrailer {
		if c.state == inData {
			data := int(min(c.left, int64(len(p)-n)))
			if kept < n {
				copy(p[kept:], p[n:n+data])
			}
			n, kept, c.left, c.data = n+data, kept+data, c.left-int64(data), c.data+int64(data)
			if c.left == 0 {
				c.state = inDataEnd
			}
			continue
		}
		b := p[n]
		if !c.step(b) {
			return n, kept, ErrChunks
		}
		n++
		if c.state != inBlanks && c.state != inExtension {
			p[kept] = b
			kept++
		}
	}
	return n, kept, nil
}

// step follows one byte that is no data.
func (c *Chunks) step(b byte) bool {
	c.line++
	switch c.state {
	case inSize:
		digit := hex(b)
		switch {
		case digit >= 0 && c.digit < 16 && c.left < 1<<59: // more is no int64
			c.left, c.digit = c.left<<4|int64(digit), c.digit+1
		case c.digit == 0:
			return false
		case b == '\r':
			c.state = inSizeEnd
		case b == ';':
			c.state = inExtension
		case b == ' ' || b == '\t':
			c.state = inBlanks
		default:
			return false
		}
	case inBlanks:
		if b == '\r' {
			c.state = inSizeEnd
		} else if b != ' ' && b != '\t' || c.line > maxChunkLine {
			return false
		}
	case inExtension:
		if b == '\r' {
			c.state = inSizeEnd
		} else if is[b]&fieldValue == 0 || c.line > maxChunkLine {
			return false
		}
	case inSizeEnd:
		c.state = inData
		if c.left == 0 {
			c.state = inTrailer
		}
		return b == '\n'
	case inDataEnd:
		c.state = inDataEndLF
		return b == '\r'
	case inDataEndLF:
		*c = Chunks{data: c.data}
		return b == '\n'
	}
	return true
}

// Data is how many bytes of data there were.
func (c *Chunks) Data() int64 { return c.data }

// InTrailer reports whether what comes next are the trailers.
func (c *Chunks) InTrailer() bool { return c.state == inTrailer }

// Trailer reads the trailers at the beginning of buf (RFC 9112 section 7.1.2), and
// appends to out what is to be passed on, with the end of the body: all but fields
// that have to stand in a head (RFC 9110 section 6.5.1). Other means that they are
// not valid. n is how many bytes they had.
func Trailer(buf, out []byte) (n int, _ []byte, v Verdict) {
	if len(buf) < 2 {
		return 0, out, Incomplete
	}
	if buf[0] == '\r' && buf[1] == '\n' {
		return 2, append(out, "\r\n"...), Plain
	}
	n, v = headEnd(buf)
	if v != Plain {
		return 0, out, v
	}
	for rest := buf[:n]; len(rest) > 2; {
		text, next, ok := line(rest)
		if !ok {
			return n, out, Other
		}
		name, value, ok := field(text)
		if !ok {
			return n, out, Other
		}
		if rest = next; !onlyInHead(name) {
			out = appendField(out, name, value)
		}
	}
	return n, append(out, "\r\n"...), Plain
}

var headFields = [...]string{
	"connection", "content-encoding", "content-length", "content-range", "content-type", "host", "keep-alive",
	"proxy-authenticate", "proxy-authorization", "proxy-connection", "proxy-status", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade",
}

// OnlyInHead reports whether a field may not be a trailer (RFC 9110 section 6.5.1).
func OnlyInHead(name string) bool { return onlyInHead([]byte(name)) }

func onlyInHead(name []byte) bool {
	name = bytes.ReplaceAll(name, []byte("_"), []byte("-"))
	for _, f := range headFields {
		if equal(name, f) {
			return true
		}
	}
	return false
}
