package budgie

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// tunnelHost is what the addresses of containers of other nodes end with, behind
// the container's id, and the turn of who answers there where it is not the first. No
// name of the network ends so (RFC 6761 section 6.4).
const tunnelHost = ".peer.invalid"

// addr is the address of a port of another node's container, for tunnels. It is another
// one when another process has taken over at that node: connections that frontends keep
// for further requests go by the former one, which ends some time after, and whatever is
// under way then with it. Datagrams go on by it, lest sessions change their replica.
func (t *tunnels) addr(id string, port int, protocol bunfile.Protocol) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	host := id + tunnelHost
	if turn := t.by[id].turn; turn > 0 && protocol != bunfile.UDP {
		host = id + "." + strconv.Itoa(turn) + tunnelHost
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// tunnels connect the frontends of this machine to containers of other nodes,
// through those nodes, which have proved who they are. Their methods may be called
// concurrently.
type tunnels struct {
	open func() (*trust.Flock, error)

	mu sync.Mutex
	// by are the nodes' endpoints by the container's id, and peers their clients.
	by    map[string]tunnelEnd
	peers map[tunnelEnd]*peer.Client
	// conns are the connections, with the container's id.
	conns map[*watchedConn]string
}

// tunnelEnd is the endpoint of a node.
type tunnelEnd struct {
	node string
	addr netip.AddrPort
	// turn is that of the process which answers there.
	turn int
}

func newTunnels(open func() (*trust.Flock, error)) *tunnels {
	return &tunnels{open: open, by: make(map[string]tunnelEnd), peers: make(map[tunnelEnd]*peer.Client), conns: make(map[*watchedConn]string)}
}

// lead makes connections to a container go by a node's endpoint.
func (t *tunnels) lead(id string, end tunnelEnd) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.by[id]
	t.by[id] = end
	if known && old != end {
		t.tidy(old)
	}
}

// forget drops a container. Connections to it go on.
func (t *tunnels) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.by[id]
	delete(t.by, id)
	t.tidy(old)
}

// tidy closes the client of an endpoint that leads to nothing any more. The
// caller holds the lock.
func (t *tunnels) tidy(end tunnelEnd) {
	for _, e := range t.by {
		if e == end {
			return
		}
	}
	if c := t.peers[end]; c != nil {
		_ = c.Close() // its connections are others'
		delete(t.peers, end)
	}
}

// close drops all.
func (t *tunnels) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.by)
	for end := range t.peers {
		t.tidy(end)
	}
}

// dial connects to a backend: to a container of another node, or by TCP. It is
// the Dial of frontends of TCP ports.
func (t *tunnels) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, remote, err := t.reach(ctx, addr, (*peer.Client).DialPort)
	if !remote {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	return conn, err
}

// dialDatagrams connects to a backend in a container of another node. It is the Dial of
// frontends of UDP ports.
func (t *tunnels) dialDatagrams(ctx context.Context, addr string) (net.Conn, error) {
	conn, remote, err := t.reach(ctx, addr, (*peer.Client).DialDatagrams)
	if !remote {
		return nil, fmt.Errorf("%s is neither an address nor a container of another node", addr)
	}
	return conn, err
}

// reach connects to a container of another node. remote is false where addr is none.
func (t *tunnels) reach(ctx context.Context, addr string, dial func(c *peer.Client, ctx context.Context, id string, port int) (net.Conn, error)) (_ net.Conn, remote bool, _ error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, true, err
	}
	id, remote := strings.CutSuffix(host, tunnelHost)
	if !remote {
		return nil, false, nil
	}
	id, _, _ = strings.Cut(id, ".") // whoever answers there now
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, true, err
	}
	client, err := t.client(id)
	if err != nil {
		return nil, true, err
	}
	conn, err := dial(client, ctx, id, n)
	if err != nil {
		return nil, true, err
	}
	return t.watch(id, conn), true, nil
}

// watch remembers a connection to a container until it is closed.
func (t *tunnels) watch(id string, conn net.Conn) *watchedConn {
	c := &watchedConn{Conn: conn, made: time.Now()}
	c.ended = sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.conns, c)
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = id
	return c
}

// newTunnel is how young a connection is that shows that its node is back: it was made,
// which takes an answer, long after the node was heard of for the last time.
const newTunnel = 2 * time.Second

// cut breaks off the connections to a container whose node has fallen silent, by
// whichever of its addresses they go: nothing more comes of them, and what waits for
// an answer may be asked elsewhere.
func (t *tunnels) cut(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, to := range t.conns {
		if to == id && time.Since(c.made) >= newTunnel {
			c.abort()
		}
	}
}

// watchedConn is a connection that tells of its end.
type watchedConn struct {
	net.Conn
	made  time.Time
	ended func()
}

// Close implements net.Conn.
func (c *watchedConn) Close() error {
	defer c.ended()
	return c.Conn.Close()
}

// CloseWrite ends one direction.
func (c *watchedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// NetConn returns what it is on, as a *tls.Conn does: who resets it has to know.
func (c *watchedConn) NetConn() net.Conn { return c.Conn }

// abort ends the connection without a farewell, which could wait.
func (c *watchedConn) abort() {
	if secure, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		_ = secure.NetConn().Close()
		return
	}
	_ = c.Conn.Close()
}

// client returns the client of the node that runs a container.
func (t *tunnels) client(id string) (*peer.Client, error) {
	f, err := t.open()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	end, known := t.by[id]
	if !known {
		return nil, fmt.Errorf("%w: replica %.12s has left", ErrUnreachable, id)
	}
	c := t.peers[end]
	if c == nil {
		c = peer.NewClient(f, end.node, []netip.AddrPort{end.addr})
		t.peers[end] = c
	}
	return c, nil
}

// follow makes the tunnels lead to a replica that proved that it serves and is
// wanted, and returns what its node says of it; to others they do not lead.
func (t *tunnels) follow(r *roster, id string, wanted func(peer.Container) bool) (told peer.Container, ok bool) {
	told, addr, _, proved := r.proved(id)
	if proved && told.Ready && told.Health != lifecycle.Unhealthy && wanted(told) {
		t.lead(id, tunnelEnd{told.Node, addr, r.turn(id)})
		return told, true
	}
	if r.silent(id) {
		t.cut(id)
	}
	t.forget(id)
	return told, false
}

// DialPort connects another node to a container of this one: to where the
// container itself serves. It implements [peer.PortDialer].
func (n *node) DialPort(ctx context.Context, id string, port int) (net.Conn, error) {
	return n.dial(ctx, "tcp", id, bunfile.TCP, port)
}

// DialDatagrams implements [peer.DatagramDialer].
func (n *node) DialDatagrams(ctx context.Context, id string, port int) (net.Conn, error) {
	return n.dial(ctx, "udp", id, bunfile.UDP, port)
}

func (n *node) dial(ctx context.Context, network, id string, protocol bunfile.Protocol, port int) (net.Conn, error) {
	k := n.c.keeperOf(id)
	if k == nil {
		return nil, fmt.Errorf("%w: container %.12s", peer.ErrNotFound, id)
	}
	addr, ok := k.servingAt(protocol, port)
	if !ok {
		return nil, fmt.Errorf("%w: port %d of container %.12s, or it does not serve now", peer.ErrNotFound, port, id)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("%w: the container does not accept the connection", peer.ErrRefused)
	}
	return k.tunnelled(conn), nil
}

// setServing notes where the container's ports are, nil while it does not serve
// other nodes.
func (k *keeper) setServing(addrs []runtime.Address) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.serving = addrs
}

// servingAt returns where the container serves a published port.
func (k *keeper) servingAt(protocol bunfile.Protocol, port int) (addr string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range k.serving {
		if a.ContainerPort == port && sameTransport(a.Protocol, protocol) {
			return a.HostPort, true
		}
	}
	return "", false
}

// tunnelled counts a connection of another node until it is closed.
func (k *keeper) tunnelled(conn net.Conn) net.Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tunnels++
	return &watchedConn{Conn: conn, ended: sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.tunnels--; k.tunnels == 0 && k.idle != nil {
			close(k.idle)
			k.idle = nil
		}
	})}
}

// drainTunnels waits until no other node has a connection to the container, or
// ctx ends: they learn that it stops, and end theirs.
func (k *keeper) drainTunnels(ctx context.Context) {
	k.mu.Lock()
	if k.tunnels == 0 {
		k.mu.Unlock()
		return
	}
	if k.idle == nil {
		k.idle = make(chan struct{})
	}
	idle := k.idle
	k.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}
