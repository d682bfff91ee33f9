// Package http1 reads plain messages of HTTP/1.1 (RFC 9112) in place, without
// allocations, for a proxy that passes them on: heads are rewritten as they are
// read, bodies are only measured. It knows a strict subset of what is allowed; of
// everything else, valid or not, it says no more than that it is something else,
// which is then for net/http to judge.
package http1

import "bytes"

// Verdict is what the beginning of a message is.
type Verdict int

// The verdicts.
const (
	// Incomplete: the end of the head is not there yet.
	Incomplete Verdict = iota
	// Plain: all of the head is there, and has nothing special.
	Plain
	// Other: something that this package does not judge.
	Other
)

// endOfHead is where a head ends.
var endOfHead = []byte("\r\n\r\n")

// headEnd returns how long the head at the beginning of buf is. A head with a line
// that ends in a bare LF is Other, as it has no such end or a wrong one.
func headEnd(buf []byte) (int, Verdict) {
	if i := bytes.Index(buf, endOfHead); i >= 0 {
		return i + len(endOfHead), Plain
	}
	for rest := buf; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return 0, Incomplete
		}
		if i == 0 || rest[i-1] != '\r' {
			return 0, Other
		}
		rest = rest[i+1:]
	}
}

// line cuts the first line, which ends with CRLF, from the rest of a head. A line
// that ends in a bare LF has no end.
func line(head []byte) (text, rest []byte, ok bool) {
	i := bytes.IndexByte(head, '\n')
	if i < 1 || head[i-1] != '\r' {
		return nil, nil, false
	}
	return head[:i-1], head[i+1:], true
}

// field splits a field line (RFC 9112 section 5). ok is false for anything but a
// token, a colon and a value in one line: no blank before the colon, no folding.
func field(text []byte) (name, value []byte, ok bool) {
	i := 0
	for i < len(text) && is[text[i]]&token != 0 {
		i++
	}
	if i == 0 || i == len(text) || text[i] != ':' {
		return nil, nil, false
	}
	name, value = text[:i], trim(text[i+1:])
	return name, value, all(value, fieldValue)
}

// trim cuts optional white space (RFC 9110 section 5.6.3).
func trim(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// The classes of bytes.
const (
	token      = 1 << iota // RFC 9110 section 5.6.2
	fieldValue             // section 5.5, obs-text included
	hostByte               // of a name or an address with a port, without escapes
	pathByte               // that net/url leaves as it is in a path, but the percent sign
	queryByte              // visible, but for the number sign
)

var is = classes()

func classes() (t [256]uint8) {
	for c := range t {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		in := func(s string) bool { return c < 0x80 && bytes.IndexByte([]byte(s), byte(c)) >= 0 }
		if alnum || in("!#$%&'*+-.^_`|~") {
			t[c] |= token
		}
		if c >= 0x20 && c != 0x7f || c == '\t' {
			t[c] |= fieldValue
		}
		if alnum || in("-._:[]") {
			t[c] |= hostByte
		}
		if alnum || in("-._~!$&'()*+,;=:@/") {
			t[c] |= pathByte
		}
		if c > 0x20 && c < 0x7f && c != '#' {
			t[c] |= queryByte
		}
	}
	return t
}

func all(s []byte, class uint8) bool {
	for _, c := range s {
		if is[c]&class == 0 {
			return false
		}
	}
	return true
}

// equal compares a name with one in lower case, in which only letters and hyphens
// are.
func equal(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// length reads the value of Content-Length. ok is false for anything but digits,
// and for more than a 64-bit number surely holds.
func length(value []byte) (n int64, ok bool) {
	if len(value) == 0 || len(value) > 18 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// persistence reads the value of Connection. ok is false where it names anything
// but whether the connection goes on.
func persistence(value []byte) (close, ok bool) {
	switch {
	case equal(value, "close"):
		return true, true
	case equal(value, "keep-alive"):
		return false, true
	}
	return false, false
}
