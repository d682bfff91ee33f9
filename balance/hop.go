package balance

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
)

// hopField comes with a Proxy-Status of this proxy and says on which connection that was
// sent. What a server behind this proxy has asked another Budgie proxy for, and was told,
// it may well pass on, as reverse proxies do; it does not mean that this server has not
// received the request. Between the proxies on either side of one connection it does.
const hopField = "Budgie-Hop"

// hopOf names a connection by the address of its client and the port of its server,
// which both sides see alike where nothing between them translates addresses. No other
// connection that exists at the same time has that name. It is empty for what is not TCP.
func hopOf(client, server string) string {
	c, err := netip.ParseAddrPort(client)
	if err != nil {
		return ""
	}
	s, err := netip.ParseAddrPort(server)
	if err != nil {
		return ""
	}
	c = netip.AddrPortFrom(c.Addr().Unmap().WithZone(""), c.Port())
	return c.String() + ">" + strconv.Itoa(int(s.Port()))
}

// textOf is an address as text, "" for none.
func textOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// setHop says in an answer to a request on which connection it is sent.
func setHop(h http.Header, r *http.Request) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if hop := hopOf(r.RemoteAddr, textOf(local)); hop != "" {
		h.Set(hopField, hop)
	}
}

// statusOver is budgieStatus of an answer that came over a connection, where it is the
// word of who is at the other end of that.
func statusOver(conn net.Conn, h http.Header) (reason string, ok bool) {
	if reason, ok = budgieStatus(h); !ok || conn == nil {
		return "", false
	}
	hop := hopOf(textOf(conn.LocalAddr()), textOf(conn.RemoteAddr()))
	return reason, hop != "" && h.Get(hopField) == hop
}
