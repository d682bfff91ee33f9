package balance

import (
	"net/http"
	"strings"
)

// proxyName is this proxy's name in Proxy-Status fields.
const proxyName = "budgie"

// Error types of RFC 9209 section 2.3 that this proxy reports. The first two
// mean that no backend has received the request.
const (
	connectionLimitReached = "connection_limit_reached"
	connectionRefused      = "connection_refused"
	destinationUnavailable = "destination_unavailable"
	connectionTerminated   = "connection_terminated"
	httpProtocolError      = "http_protocol_error"
	httpRequestError       = "http_request_error"
	httpResponseTimeout    = "http_response_timeout"
)

const proxyStatusField = "Proxy-Status"

// budgieStatus returns the error type that a Budgie proxy gave for a response.
// The last such entry is the nearest proxy's (RFC 9209 section 2).
func budgieStatus(h http.Header) (reason string, ok bool) {
	for _, line := range h[proxyStatusField] {
		for entry := range listMembers(line, ',') {
			if memberName(entry) != proxyName {
				continue
			}
			reason, ok = "", true
			for param := range listMembers(entry, ';') {
				if k, v, _ := strings.Cut(param, "="); strings.TrimSpace(k) == "error" {
					reason = strings.TrimSpace(v)
				}
			}
		}
	}
	return reason, ok && reason != ""
}

// hideProxyStatus removes the entries that claim to be this proxy's, and what comes
// with them.
func hideProxyStatus(h http.Header) {
	lines, ok := h[proxyStatusField]
	if !ok {
		return
	}
	delete(h, hopField)
	var kept []string
	for _, line := range lines {
		for entry := range listMembers(line, ',') {
			if entry = strings.TrimSpace(entry); entry != "" && memberName(entry) != proxyName {
				kept = append(kept, entry)
			}
		}
	}
	if len(kept) == 0 {
		delete(h, proxyStatusField)
		return
	}
	h[proxyStatusField] = []string{strings.Join(kept, ", ")}
}

// memberName returns the token or string (RFC 8941 section 3.3) that an entry
// begins with.
func memberName(entry string) string {
	name, _, _ := strings.Cut(entry, ";")
	return strings.Trim(strings.TrimSpace(name), `"`)
}

// listMembers splits s at sep where that is not inside a quoted string.
func listMembers(s string, sep byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		begin, quoted := 0, false
		for i := 0; i < len(s); i++ {
			switch c := s[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case c == sep && !quoted:
				if !yield(s[begin:i]) {
					return
				}
				begin = i + 1
			}
		}
		yield(s[begin:])
	}
}
