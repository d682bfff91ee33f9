package http1

import (
	"bytes"
	"net/netip"
)

// Origin is what is told to backends of where requests come from.
type Origin struct {
	fields    []byte // X-Forwarded-Proto and X-Forwarded-For
	forwarded []byte // Forwarded (RFC 7239), up to the host
}

// NewOrigin returns the origin that a client's address is, by HTTP without TLS. An
// address that is not valid is not named.
func NewOrigin(client netip.Addr) Origin {
	o := Origin{fields: []byte("X-Forwarded-Proto: http\r\n")}
	node := "unknown"
	if client.IsValid() {
		node = client.String()
		o.fields = append(o.fields, "X-Forwarded-For: "+node+"\r\n"...)
		if client.Is6() {
			node = `"[` + node + `]"` // section 6
		}
	}
	o.forwarded = []byte("Forwarded: for=" + node + `;host="`)
	return o
}

// Request is the head of a request. Its slices are parts of what was parsed.
type Request struct {
	Method, Target, Host []byte
	UserAgent, Referer   []byte
	// Head is how many bytes the head has, Body how many the body is to have.
	Head int
	Body int64
	// Close: the client asks no further.
	Close bool

	hosts, lengths int
}

// Parse reads the head of a request at the beginning of buf and appends the one
// for the backend to out: without hop-by-hop fields (RFC 9110 section 7.6.1) and
// without what the client claims of its origin. What it returns besides is worth
// nothing unless the verdict is Plain.
func (r *Request) Parse(buf, out []byte, by *Origin) ([]byte, Verdict) {
	*r = Request{}
	if !r.method(buf) {
		return out, Other
	}
	n, v := headEnd(buf)
	if v != Plain {
		return out, v
	}
	r.Head = n
	first, rest, ok := line(buf[:n])
	if !ok || !r.target(first) {
		return out, Other
	}
	out = append(append(out, first...), "\r\n"...)
	for len(rest) > 2 { // the empty line
		var text []byte
		if text, rest, ok = line(rest); !ok {
			return out, Other
		}
		name, value, ok := field(text)
		if !ok {
			return out, Other
		}
		switch r.see(name, value) {
		case pass:
			out = appendField(out, name, value)
		case other:
			return out, Other
		}
	}
	hasBody := r.is("POST") || r.is("PUT") || r.is("PATCH")
	if r.hosts != 1 || hasBody && r.lengths == 0 || !hasBody && r.Body > 0 {
		return out, Other
	}
	out = append(append(append(out, "X-Forwarded-Host: "...), r.Host...), "\r\n"...)
	out = append(append(append(out, by.fields...), by.forwarded...), r.Host...)
	return append(out, "\";proto=http\r\n\r\n"...), Plain
}

func appendField(out, name, value []byte) []byte {
	out = append(append(out, name...), ": "...)
	return append(append(out, value...), "\r\n"...)
}

// methods are those with which nothing special comes. No other begins like one of
// them.
var methods = [...]string{"GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS "}

// method reads the method, as far as it is there. ok is false for one that is not
// known.
func (r *Request) method(buf []byte) (ok bool) {
	for _, m := range methods {
		n := min(len(m), len(buf))
		if string(buf[:n]) == m[:n] {
			r.Method = buf[:min(len(m)-1, len(buf))]
			return true
		}
	}
	return false
}

func (r *Request) is(method string) bool { return string(r.Method) == method }

// IsHead reports whether the method is HEAD.
func (r *Request) IsHead() bool { return r.is("HEAD") }

// Idempotent reports whether the request may be made twice: RFC 9110 section
// 9.2.2.
func (r *Request) Idempotent() bool { return !r.is("POST") && !r.is("PATCH") }

// target reads the rest of the request line: a path that net/url would not change,
// with or without a query, by HTTP/1.1.
func (r *Request) target(first []byte) bool {
	rest, ok := bytes.CutSuffix(first[len(r.Method)+1:], []byte(" HTTP/1.1"))
	if !ok || len(rest) == 0 || rest[0] != '/' || len(rest) > 1 && rest[1] == '/' {
		return false
	}
	r.Target = rest
	path, query, _ := bytes.Cut(rest, []byte("?"))
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case is[c]&pathByte != 0:
		case c == '%' && i+2 < len(path) && hex(path[i+1]) >= 0 && hex(path[i+2]) >= 0:
			i += 2
		default:
			return false
		}
	}
	return all(query, queryByte)
}

// What becomes of a field.
const (
	pass = iota
	drop
	other
)

// see notes what a field of a request says.
func (r *Request) see(name, value []byte) int {
	if claimsOrigin(name) {
		return drop
	}
	switch len(name) {
	case 2:
		return otherIf(equal(name, "te"))
	case 4:
		if !equal(name, "host") {
			return pass
		}
		r.Host, r.hosts = value, r.hosts+1
		return otherIf(len(value) == 0 || !all(value, hostByte))
	case 6:
		return otherIf(equal(name, "expect"))
	case 7:
		if equal(name, "referer") && r.Referer == nil {
			r.Referer = value
		}
		return otherIf(equal(name, "trailer") || equal(name, "upgrade"))
	case 10:
		return r.seeTen(name, value)
	case 12:
		return otherIf(r.is("OPTIONS") && equal(name, "max-forwards")) // to be counted down
	case 14:
		if !equal(name, "content-length") {
			return otherIf(equal(name, "http2-settings"))
		}
		var ok bool
		r.Body, ok = length(value)
		r.lengths++
		return otherIf(!ok || r.lengths > 1)
	case 16:
		return dropIf(equal(name, "proxy-connection"))
	case 17:
		return otherIf(equal(name, "transfer-encoding"))
	case 18:
		return dropIf(equal(name, "proxy-authenticate"))
	case 19:
		return dropIf(equal(name, "proxy-authorization"))
	}
	return pass
}

func (r *Request) seeTen(name, value []byte) int {
	switch {
	case equal(name, "user-agent"):
		if r.UserAgent == nil {
			r.UserAgent = value
		}
	case equal(name, "keep-alive"):
		return drop
	case equal(name, "connection"):
		shut, ok := persistence(value)
		r.Close = r.Close || shut
		if !ok {
			return other
		}
		return drop
	}
	return pass
}

func otherIf(so bool) int {
	if so {
		return other
	}
	return pass
}

func dropIf(so bool) int {
	if so {
		return drop
	}
	return pass
}

// claimsOrigin reports whether a field says where a request comes from. Servers in
// the tradition of CGI take an underscore for a hyphen.
func claimsOrigin(name []byte) bool {
	if len(name) < len("forwarded") {
		return false
	}
	switch name[0] | 0x20 {
	case 'f':
		return equal(name, "forwarded")
	case 'x':
		return len(name) == len("x-real-ip") && like(name, "x-real-ip") ||
			len(name) >= len("x-forwarded") && like(name[:len("x-forwarded")], "x-forwarded")
	}
	return false
}

// like is equal with underscores for hyphens.
func like(name []byte, lower string) bool {
	for i, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		case c == '_':
			c = '-'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// hex returns the value of a hexadecimal digit, -1 of anything else.
func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
