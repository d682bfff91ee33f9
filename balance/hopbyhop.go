package balance

import (
	"net/http"
	"strings"
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
