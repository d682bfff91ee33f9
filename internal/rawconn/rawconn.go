// Package rawconn closes connections without a farewell, whatever they are wrapped in.
package rawconn

import "net"

// Reset closes a connection, with a reset where it is one of TCP in the end, so that its
// other end does not take what it has got for everything. What lies between, as TLS does,
// does not get to say goodbye, which would mean that. It looks for what a connection is on
// by a method NetConn, as a *tls.Conn has it.
func Reset(c net.Conn) {
	raw := bottom(c)
	if l, ok := raw.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // it is closed in any case
	}
	_ = raw.Close()
	_ = c.Close()
}

// bottom returns what a connection is on in the end.
func bottom(c net.Conn) net.Conn {
	for {
		on, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		below := on.NetConn()
		if below == nil {
			return c
		}
		c = below
	}
}
