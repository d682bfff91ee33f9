package http1

// Response is the head of a response.
type Response struct {
	Status int
	// Head is how many bytes the head has, Length how many the body has: -1 where it
	// is chunked, 0 where there is none, whatever Content-Length says.
	Head   int
	Length int64
	// Close: the backend takes no further request on the connection.
	Close bool
	// Dated: it has a Date.
	Dated bool

	lengths int
	chunked bool
}

// Parse reads the head of a response at the beginning of buf and appends the one
// for the client to out, without hop-by-hop fields and without the empty line at
// its end. isHead says that the request was of that method. What it returns besides
// is worth nothing unless the verdict is Plain.
func (r *Response) Parse(buf, out []byte, isHead bool) ([]byte, Verdict) {
	*r = Response{}
	n, v := headEnd(buf)
	if v != Plain {
		return out, v
	}
	r.Head = n
	first, rest, ok := line(buf[:n])
	if !ok || !r.status(first) {
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
	if !r.frame(isHead) {
		return out, Other
	}
	return out, Plain
}

// frame decides how long the body is (RFC 9112 section 6.3). ok is false where only
// the end of the connection tells, or where fields contradict each other.
func (r *Response) frame(isHead bool) (ok bool) {
	switch {
	case r.chunked && r.lengths > 0:
		return false
	case r.Status == 204 && (r.chunked || r.lengths > 0), r.Status == 304 && r.chunked:
		return false
	case isHead, r.Status == 204, r.Status == 304:
		r.Length = 0
	case r.chunked:
		r.Length = -1
	case r.lengths == 0:
		return false
	}
	return true
}

// status reads a status line of a final response by HTTP/1.1.
func (r *Response) status(first []byte) bool {
	const version = "HTTP/1.1 "
	if len(first) < len(version)+3 || string(first[:len(version)]) != version {
		return false
	}
	for _, c := range first[len(version) : len(version)+3] {
		if c < '0' || c > '9' {
			return false
		}
		r.Status = 10*r.Status + int(c-'0')
	}
	reason := first[len(version)+3:]
	return r.Status >= 200 && r.Status < 600 && len(reason) > 0 && reason[0] == ' ' && all(reason, fieldValue)
}

// see notes what a field of a response says.
func (r *Response) see(name, value []byte) int {
	switch len(name) {
	case 2:
		return otherIf(equal(name, "te"))
	case 4:
		r.Dated = r.Dated || equal(name, "date")
	case 7:
		return otherIf(equal(name, "trailer") || equal(name, "upgrade"))
	case 10:
		if equal(name, "keep-alive") {
			return drop
		}
		if equal(name, "connection") {
			shut, ok := persistence(value)
			r.Close = r.Close || shut
			if !ok {
				return other
			}
			return drop
		}
	case 12:
		return otherIf(equal(name, "proxy-status"))
	case 14:
		if equal(name, "content-length") {
			var ok bool
			r.Length, ok = length(value)
			r.lengths++
			return otherIf(!ok || r.lengths > 1)
		}
	case 16:
		return dropIf(equal(name, "proxy-connection"))
	case 17:
		if equal(name, "transfer-encoding") {
			if r.chunked || !equal(value, "chunked") {
				return other
			}
			r.chunked = true
			return pass
		}
	case 18:
		return dropIf(equal(name, "proxy-authenticate"))
	case 19:
		return dropIf(equal(name, "proxy-authorization"))
	}
	return pass
}
