package trust

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// Protocol is what the two sides agree to speak (ALPN, RFC 7301) where the
// caller names no protocols of its own.
const Protocol = "budgie/1"

// ServerConfig returns the configuration of a server that talks to members of
// the flock only, as the flock is at the time of each handshake. It speaks one of
// the protocols, [Protocol] if none is given, or refuses.
//
// It does not end connections: what a rotation is to end belongs behind
// [Flock.Listener], or is the caller's to end with the generation, see
// [Generation.Ended].
func (f *Flock) ServerConfig(protocols ...string) *tls.Config {
	return f.config(server, "", protocols, nil)
}

// ClientConfig returns the configuration of a client of one node of the flock,
// or of any member where node is empty. Otherwise it is as ServerConfig.
// [Flock.Client] makes a connection that a rotation ends.
func (f *Flock) ClientConfig(node string, protocols ...string) *tls.Config {
	return f.config(client, node, protocols, nil)
}

// config returns the configuration of one side. c is the connection that the
// handshake is for, nil where it is not known.
func (f *Flock) config(r role, node string, protocols []string, c *conn) *tls.Config {
	if len(protocols) == 0 {
		protocols = []string{Protocol}
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols,
		// Every connection proves anew who its ends are: a ticket would outlive
		// certificates, and a server that restarts.
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return f.verify(cs, r.other(), node, c)
		},
	}
	// crypto/tls would verify host names, and certificates by one fixed pool and
	// clock. VerifyConnection, which nothing skips, verifies instead.
	if r == server {
		cfg.ClientAuth = tls.RequireAnyClientCert
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate(r) }
	} else {
		cfg.InsecureSkipVerify = true
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.certificate(r) }
	}
	return cfg
}

// certificate returns this node's certificate of now.
func (f *Flock) certificate(r role) (*tls.Certificate, error) {
	g, err := f.current()
	if err != nil {
		return nil, err
	}
	return g.certificate(f.self, r, f.clock())
}

// verify decides whether the other side of a handshake, whose role is r, is the
// expected node, or any member where node is empty. The connection then belongs
// to the generation that it was verified by.
func (f *Flock) verify(cs tls.ConnectionState, r role, node string, c *conn) error {
	g, err := f.current()
	if err != nil {
		return err
	}
	if len(cs.PeerCertificates) == 0 {
		return refuse(ErrNotTrusted, "the other side has no certificate: it is not Budgie, or not in a flock")
	}
	p, err := g.authority.verify(cs.PeerCertificates[0], r, f.clock())
	if err != nil {
		return err
	}
	if node != "" && node != p.Node {
		return refuse(ErrWrongNode, fmt.Sprintf(
			"node %.12s of the flock answers where node %.12s was expected: the address has changed hands, or a node pretends to be another", p.Node, node))
	}
	if cs.NegotiatedProtocol == "" {
		return refuse(ErrNotTrusted, fmt.Sprintf("node %.12s did not say which protocol it speaks (ALPN)", p.Node))
	}
	if c != nil && !c.belong(g) {
		return refuse(ErrNotTrusted, "the token was changed during the handshake: connect again")
	}
	if f.seen != nil {
		f.seen(p)
	}
	return nil
}

// Listener returns a listener whose connections are of the type *tls.Conn and
// have the configuration of [Flock.ServerConfig]. A connection is ended when the
// machine gets another token than the one it was verified by, and by
// [Flock.Close]. As with tls.NewListener, the handshake is done at the first
// read or write, and its deadline is the caller's to set.
func (f *Flock) Listener(ln net.Listener, protocols ...string) net.Listener {
	return &listener{ln, f, protocols}
}

type listener struct {
	net.Listener
	flock     *Flock
	protocols []string
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c, err := l.flock.adopt(raw)
	if err != nil {
		return nil, err
	}
	return tls.Server(c, l.flock.config(server, "", l.protocols, c)), nil
}

// Client makes a TLS connection to a node of the flock, or to any member where
// node is empty, over raw, which it closes on failure. The connection is ended
// like those of [Flock.Listener]. Where ctx ends before the handshake, the error
// is that of ctx.
//
// The server's verdict on this node comes after the handshake: see [Explain].
func (f *Flock) Client(ctx context.Context, raw net.Conn, node string, protocols ...string) (*tls.Conn, error) {
	c, err := f.adopt(raw)
	if err != nil {
		return nil, err
	}
	t := tls.Client(c, f.config(client, node, protocols, c))
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close() // nothing was said on it
		return nil, fmt.Errorf("connect to %s: %w", raw.RemoteAddr(), Explain(err))
	}
	return t, nil
}

// conn is a connection that its Flock can end.
type conn struct {
	net.Conn
	flock *Flock
}

// adopt makes raw a connection of the Flock, and closes it on failure.
func (f *Flock) adopt(raw net.Conn) (*conn, error) {
	err := f.watch()
	if err == nil {
		c := &conn{raw, f}
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.closed {
			f.conns[c] = nil
			return c, nil
		}
		err = ErrClosed
	}
	_ = raw.Close() // the error that counts is the other one
	return nil, err
}

// belong makes the connection end with a generation. It returns false where
// that, or the connection, has ended already.
func (c *conn) belong(g *Generation) bool {
	c.flock.mu.Lock()
	defer c.flock.mu.Unlock()
	if _, open := c.flock.conns[c]; !open || c.flock.gen != g {
		return false
	}
	c.flock.conns[c] = g
	return true
}

// NetConn returns what it is on.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Close implements net.Conn.
func (c *conn) Close() error {
	c.flock.mu.Lock()
	delete(c.flock.conns, c)
	c.flock.mu.Unlock()
	return c.Conn.Close()
}
