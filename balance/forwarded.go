package balance

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"

	"github.com/budgiehq/budgie/balance/internal/http1"
	"golang.org/x/net/http/httpguts"
)

// rewrite turns a client's request into the one for the backends. Hop-by-hop
// fields are gone by then.
func rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out
	out.URL.Scheme = "http"
	out.URL.Host = in.Host // replaced by the address of each attempt
	if out.Host == "" {
		// Only HTTP/1.0 comes without. http.Transport would name the backend,
		// whose address is none of the client's business.
		out.Host = defaultHost(in)
	}
	// ReverseProxy drops query parameters that Go cannot parse; this proxy does
	// not look at them, and the backend may know better.
	out.URL.RawQuery = in.URL.RawQuery
	if raw := out.URL.RawPath; raw != "" && out.URL.EscapedPath() != raw {
		// net/url would escape the decoded path instead, in which an escaped slash is
		// one like any other.
		out.URL.RawPath = escapeRest(raw)
	}
	// The map itself: the values come in after the body.
	out.Trailer = in.Trailer
	if out.Header.Get("Upgrade") != "" && (!in.ProtoAtLeast(1, 1) || httpguts.HeaderValuesContainsToken(out.Header["Upgrade"], "h2c")) {
		// Over HTTP/1.0 there is no such wish (RFC 9110 section 7.8). With h2c it is a
		// tunnel in which requests pass that nobody has looked at. A server may
		// ignore the wish, and that for h2c is no longer one (RFC 9113 section 3.1).
		for _, name := range []string{"Upgrade", "Connection", "Http2-Settings"} {
			delete(out.Header, name)
		}
	}
	for name := range out.Header {
		if claimsOrigin(name) {
			delete(out.Header, name)
		}
	}
	setForwarded(in, out.Header)
	if n, ok := maxForwards(in); ok && n > 0 {
		out.Header["Max-Forwards"] = []string{strconv.FormatUint(n-1, 10)}
	}
	if key, ok := out.Header["Idempotency-Key"]; ok && !idempotent(in.Method) {
		// http.Transport sends a POST again that carries this field. What is
		// sent again is decided here, so it gets the field, whose name has no
		// case on the wire, in a spelling that it does not know.
		delete(out.Header, "Idempotency-Key")
		out.Header["idempotency-key"] = key
	}
	if key, ok := out.Header["X-Idempotency-Key"]; ok && !idempotent(in.Method) {
		delete(out.Header, "X-Idempotency-Key")
		out.Header["x-idempotency-key"] = key
	}
}

// escapeRest escapes what may not stand in a path, and leaves the escapes that are there
// as they are. net/url goes by the result where it has nothing to escape itself.
func escapeRest(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(path) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("%/-._~!$&'()*+,;=:@[]", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&0xf]})
		}
	}
	return b.String()
}

// defaultHost is the authority of a request that has none: what the client
// connected to, RFC 9112 section 3.3.
func defaultHost(r *http.Request) string {
	a, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if a == nil {
		return "localhost"
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return "localhost" // not even an IP address
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()).String()
}

// claimsOrigin reports whether a field says where a request comes from, which
// only this proxy knows. Servers in the tradition of CGI take an underscore for
// a hyphen.
func claimsOrigin(name string) bool {
	if len(name) < len("Forwarded") || name[0]|0x20 != 'x' && name[0]|0x20 != 'f' {
		return false
	}
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	return name == "forwarded" || name == "x-real-ip" || strings.HasPrefix(name, "x-forwarded")
}

// dropMisplaced drops fields from trailers that have to stand in a head, and those of a
// request that say where it comes from: who merges trailers into the header must not be
// misled by them.
func dropMisplaced(trailer http.Header) {
	for name := range trailer {
		if http1.OnlyInHead(name) || claimsOrigin(name) {
			delete(trailer, name)
		}
	}
}

// setForwarded says who made the request, for what host and by which protocol,
// in the customary fields and in that of RFC 7239.
func setForwarded(in *http.Request, h http.Header) {
	proto := "http"
	if overTLS(in) {
		proto = "https"
	}
	forwarded := "proto=" + proto
	if in.Host != "" {
		h["X-Forwarded-Host"] = []string{in.Host}
		// A valid Host has no character that needs escaping in quotes, but has
		// some that a token may not have (section 4).
		forwarded = `host="` + in.Host + `";` + forwarded
	}
	h["X-Forwarded-Proto"] = []string{proto}
	node := "unknown"
	if ip, _, err := net.SplitHostPort(in.RemoteAddr); err == nil {
		node = ip
		h["X-Forwarded-For"] = []string{ip}
		if a, err := netip.ParseAddr(ip); err == nil && a.Is6() {
			node = `"[` + ip + `]"` // section 6
		}
	}
	h["Forwarded"] = []string{"for=" + node + ";" + forwarded}
}

// overTLS looks behind the wrappers at which http.Server does not recognise TLS.
func overTLS(r *http.Request) bool {
	cc := clientConnOf(r)
	if cc == nil {
		return false
	}
	if cc.h1 != nil && cc.h1.tls != nil {
		return true
	}
	_, ok := cc.Conn.(*tls.Conn) // of a TLS listener
	return ok
}
