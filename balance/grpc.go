package balance

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The codes of gRPC that this proxy gives.
const (
	grpcCancelled         = 1
	grpcUnknown           = 2
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
)

const (
	grpcStatusField  = "Grpc-Status"
	grpcMessageField = "Grpc-Message"
)

// isGRPC reports whether a content type is that of gRPC over HTTP/2, with any
// encoding of messages. Those that begin with application/grpc-web are not: they
// are for HTTP/1.1.
func isGRPC(h http.Header) bool {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	t = strings.ToLower(strings.TrimSpace(t))
	return t == "application/grpc" || strings.HasPrefix(t, "application/grpc+")
}

// grpcCodeOf maps the status of an answer of HTTP to gRPC, as the mapping of
// grpc/doc/http-grpc-status-mapping.md does, which has no code for 413 and 431:
// what is too large is RESOURCE_EXHAUSTED.
func grpcCodeOf(status int) int {
	switch status {
	case http.StatusBadRequest:
		return grpcInternal
	case http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge:
		return grpcResourceExhausted
	case http.StatusNotImplemented:
		return grpcUnimplemented
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return grpcUnavailable
	}
	return grpcUnknown
}

// grpcCodeOfError maps what broke a stream off, as the section "Errors" of
// grpc/doc/PROTOCOL-HTTP2.md does; of a connection that is lost it says
// UNAVAILABLE.
func grpcCodeOfError(err error) int {
	var stream streamError
	if !errors.As(err, &stream) {
		return grpcUnavailable
	}
	switch stream.Code {
	case h2RefusedStream:
		return grpcUnavailable
	case h2Cancel:
		return grpcCancelled
	case h2EnhanceYourCalm:
		return grpcResourceExhausted
	case h2InadequateSecurity:
		return grpcPermissionDenied
	}
	return grpcInternal
}

// grpcTimeout returns the time that a client gives its call, false if there is no
// bound or none that is well-formed: at most 8 digits and a unit, see the section
// "Requests" of grpc/doc/PROTOCOL-HTTP2.md.
func grpcTimeout(field string) (time.Duration, bool) {
	if len(field) < 2 || len(field) > 9 {
		return 0, false
	}
	digits, unit := field[:len(field)-1], field[len(field)-1]
	n, err := strconv.ParseUint(digits, 10, 32)
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	u, ok := units[unit]
	if err != nil || !ok {
		return 0, false
	}
	if n > uint64(math.MaxInt64/u) {
		return math.MaxInt64, true
	}
	return time.Duration(n) * u, true
}

// grpcCode is the code for a call that was broken off. A backend that gives up at
// the client's deadline resets the stream as if that were cancelled.
func (ex *exchange) grpcCode(req *http.Request, err error) int {
	code := grpcCodeOfError(err)
	if code == grpcCancelled {
		if d, ok := grpcTimeout(req.Header.Get("Grpc-Timeout")); ok && time.Since(ex.began) >= d {
			return grpcDeadlineExceeded
		}
	}
	return code
}

// setGRPCStatus writes a status into a header or a trailer.
func setGRPCStatus(h http.Header, code int, text string) {
	h.Set(grpcStatusField, strconv.Itoa(code))
	h.Set(grpcMessageField, grpcMessage(text))
}

// grpcMessage encodes a message for a field: all but printable ASCII, and the
// percent sign, as percent and two digits.
func grpcMessage(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// answerGRPC answers a call with a status and nothing else.
func answerGRPC(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/grpc")
	setGRPCStatus(w.Header(), code, text)
	w.WriteHeader(http.StatusOK)
}

// reply answers a request by this proxy itself, so that a client of gRPC, too,
// understands it.
func reply(w http.ResponseWriter, grpc bool, status int, text string) {
	if grpc {
		answerGRPC(w, grpcCodeOf(status), text)
		return
	}
	http.Error(w, text, status)
}

// takeGRPC makes the end of a broken response one that a client understands, and
// that of an empty one, a status alone, the end of its header: a client may take
// no other place for it. Answers of other kinds are left as they are.
func (ex *exchange) takeGRPC(req *http.Request, resp *http.Response) {
	if !isGRPC(resp.Header) {
		return
	}
	ex.writer.headerOnly = resp.ContentLength == 0
	ex.body.broken = func(err error) bool {
		if req.Context().Err() != nil {
			return false // the client left
		}
		if resp.Trailer == nil {
			resp.Trailer = http.Header{}
		}
		setGRPCStatus(resp.Trailer, ex.grpcCode(req, err), fmt.Sprintf("service %q: the replica broke off: %v", ex.front.name, err))
		return true
	}
}
