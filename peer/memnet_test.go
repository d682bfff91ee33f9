package peer_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/trust"
)

// memNet is a network in memory with one listener, which works in synctest
// bubbles.
type memNet struct {
	at    netip.AddrPort
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newMemNet() *memNet {
	return &memNet{at: netip.MustParseAddrPort("10.0.0.1:18733"), conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (n *memNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *memNet) Close() error { n.once.Do(func() { close(n.done) }); return nil }

// Addr implements net.Listener.
func (n *memNet) Addr() net.Addr { return net.TCPAddrFromAddrPort(n.at) }

// dialFrom connects from an address.
func (n *memNet) dialFrom(ctx context.Context, from netip.AddrPort) (*memConn, error) {
	a, b := net.Pipe()
	select {
	case n.conns <- &memConn{Conn: b, local: n.at, remote: from}:
		return &memConn{Conn: a, local: from, remote: n.at}, nil
	case <-n.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// memConn is one end of a connection. Where freeze is set, nothing more is heard
// of the other end from when it is closed on, as when that has lost its power.
type memConn struct {
	net.Conn
	local, remote netip.AddrPort
	freeze        <-chan struct{}
	ended         chan struct{}
	once          sync.Once
}

func (c *memConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *memConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *memConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.freeze == nil {
		return n, err
	}
	select {
	case <-c.freeze:
		<-c.ended
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *memConn) Close() error {
	if c.ended != nil {
		c.once.Do(func() { close(c.ended) })
	}
	return c.Conn.Close()
}

// memRig is a node's endpoint on a network in memory.
type memRig struct {
	rig
	net *memNet
}

func newMemRig(t *testing.T, opts ...peer.Option) *memRig {
	t.Helper()
	r := &memRig{rig{token: trust.NewToken(), node: &peertest.Node{}, images: &peertest.Images{}}, newMemNet()}
	r.node.AddImages(r.images)
	r.flock, r.other = member(t, r.token), member(t, r.token)
	r.server = peer.NewServer(r.flock, r.node, opts...)
	serveOn(t, r.server, r.net)
	r.addr = r.net.at
	return r
}

// somewhere is where the other member is.
var somewhere = netip.MustParseAddrPort("10.0.0.2:1")

// dial connects from there.
func (r *memRig) dial(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
	return r.net.dialFrom(ctx, somewhere)
}

func (r *memRig) client(t *testing.T, opts ...peer.ClientOption) *peer.Client {
	t.Helper()
	return r.rig.client(t, append([]peer.ClientOption{peer.WithDial(r.dial)}, opts...)...)
}
