package balance

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/budgiehq/budgie/bunfile"
	"golang.org/x/net/http/httpguts"
)

// keySource says what requests are told apart by where the algorithm asks.
type keySource struct {
	used bool // no key is wanted where it is not set
	hash bunfile.Hash
}

func newKeySource(cfg Config) keySource {
	return keySource{used: cfg.Algorithm == bunfile.ConsistentHash, hash: cfg.Hash}
}

// ofRequest returns the key of a request: the header or the cookie that was
// configured, the client's address where it has none.
func (k keySource) ofRequest(r *http.Request) uint64 {
	if !k.used {
		return 0
	}
	value := ""
	switch name := k.hash.Header; {
	case http.CanonicalHeaderKey(name) == "Host":
		value = r.Host // http.Server takes it out of the header
	case name != "":
		value = r.Header.Get(name)
	case k.hash.Cookie != "":
		if c, err := r.Cookie(k.hash.Cookie); err == nil {
			value = c.Value
		}
	}
	if value != "" {
		return hashText(value)
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return hashText(r.RemoteAddr) // not even an IP address
	}
	return k.ofClient(ap.Addr())
}

// ofConn returns the key of a connection: the address of who made it.
func (k keySource) ofConn(c net.Conn) uint64 {
	if !k.used {
		return 0
	}
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return hashText(c.RemoteAddr().String())
	}
	return k.ofClient(a.AddrPort().Addr())
}

// ofClient returns the key of an address, the same for both ways of writing one
// of IPv4.
func (k keySource) ofClient(a netip.Addr) uint64 {
	if !k.used {
		return 0
	}
	return hashText(a.Unmap().WithZone("").String())
}

// hashProblem says what is wrong with a hash, "" for nothing.
func hashProblem(cfg Config) string {
	h := cfg.Hash
	switch {
	case h == (bunfile.Hash{}):
	case cfg.Algorithm != bunfile.ConsistentHash:
		return "there is a hash, which only algorithm \"" + string(bunfile.ConsistentHash) + "\" has"
	case cfg.Mode != bunfile.ModeHTTP:
		return fmt.Sprintf("mode %q knows neither headers nor cookies; its hash is that of the client's address", cfg.Mode)
	case h.Header != "" && h.Cookie != "":
		return "the hash has a header and a cookie; it goes by one of them"
	case !validToken(h.Header) || !validToken(h.Cookie):
		return "the hash's header or cookie is not a name (RFC 9110 section 5.6.2)"
	}
	return ""
}

func validToken(s string) bool { return s == "" || httpguts.ValidHeaderFieldName(s) }
