package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/trust"
)

// alpn is the protocol of all connections but those that carry a stream (RFC 9113
// section 3.2).
const alpn = "h2"

// A gate is a listener whose connections have proved that they are members of
// the flock. It does their handshakes, as many at a time as the limits say; a
// new one beyond takes the place of the oldest, of the same address where that
// has its share, else of the address that has most. So connections that never
// say anything cost a bounded amount of memory, and others get through between
// them.
type gate struct {
	raw, tls net.Listener
	limits   limits
	log      *slog.Logger
	// conns are those that were handed over and have not ended.
	conns *quota[netip.Addr]
	// stream takes over the connections that carry a stream.
	stream func(*tls.Conn)

	ready chan net.Conn
	done  chan struct{}
	// slots bounds the handshakes, also those that were given up and have not
	// ended yet.
	slots chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	// leaving: no more is accepted, and what was goes on.
	leaving bool
	err     error
	// pending are the handshakes under way, the oldest first.
	pending []*handshake
}

// handshake is one that is under way.
type handshake struct {
	addr   netip.Addr
	giveUp context.CancelFunc
}

func newGate(ln net.Listener, s *Server) *gate {
	l := s.limits
	g := &gate{
		raw: ln, tls: s.flock.Listener(cutListener{ln}, append(slices.Sorted(maps.Keys(s.streams)), alpn)...), limits: l, log: s.log, conns: s.conns, stream: s.takeStream,
		ready: make(chan net.Conn), done: make(chan struct{}), slots: make(chan struct{}, l.pending),
	}
	g.wg.Go(g.run)
	return g
}

// run accepts connections until the listener ends.
func (g *gate) run() {
	const least, most = 5 * time.Millisecond, time.Second
	pause := least
	for {
		c, err := g.tls.Accept()
		switch {
		case err == nil:
			pause = least
			g.begin(c.(*tls.Conn))
		case g.isLeaving():
			return
		case errors.Is(err, net.ErrClosed) || errors.Is(err, trust.ErrClosed) || g.isClosed():
			g.shut(err)
			return
		default: // such as too many open files: others may close some
			g.log.Warn("a peer's connection was not accepted", "error", err)
			select {
			case <-time.After(pause):
			case <-g.done:
			}
			pause = min(2*pause, most)
		}
	}
}

// begin starts the handshake of a connection.
func (g *gate) begin(c *tls.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), g.limits.handshake)
	h := &handshake{addrOf(c.RemoteAddr()), cancel}
	g.makeRoom(h.addr)
	select {
	case g.slots <- struct{}{}:
	case <-g.done:
		cancel()
		_ = c.Close() // it was never used
		return
	}
	g.mu.Lock()
	g.pending = append(g.pending, h)
	if g.closed {
		cancel()
	}
	g.mu.Unlock()
	g.wg.Go(func() {
		defer func() { <-g.slots }()
		defer cancel()
		g.finish(ctx, h, c)
	})
}

// finish does a handshake, and hands over the connection or ends it.
func (g *gate) finish(ctx context.Context, h *handshake, c *tls.Conn) {
	err := c.HandshakeContext(ctx)
	if err != nil {
		g.log.Debug("a connection was refused", "address", c.RemoteAddr(), "error", err)
		g.farewell(ctx, c)
		g.forget(h)
		_ = c.Close() // it is not wanted
		return
	}
	g.forget(h)
	if c.ConnectionState().NegotiatedProtocol != alpn {
		g.stream(c)
		return
	}
	if !g.conns.enter(h.addr) {
		g.log.Warn("a peer has too many connections", "address", c.RemoteAddr())
		_ = c.Close() // it is not wanted
		return
	}
	select {
	case g.ready <- c: // whoever takes it counts its end
	case <-g.done:
		g.conns.leave(h.addr)
		_ = c.Close() // nobody serves it
	}
}

// farewell lets a client that was refused read why, as an alert. Closing with
// bytes unread would make the operating system reset the connection, and take
// the alert away.
func (g *gate) farewell(ctx context.Context, c *tls.Conn) {
	raw := c.NetConn()
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	if raw.SetReadDeadline(time.Now().Add(g.limits.farewell)) == nil {
		_, _ = io.CopyN(io.Discard, raw, 2*maxHeader) // its end, whatever it is, is the end
	}
}

// makeRoom gives up a handshake where there are too many for one more.
func (g *gate) makeRoom(addr netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := make(map[netip.Addr]int)
	busiest := addr
	for _, h := range g.pending {
		if of[h.addr]++; of[h.addr] > of[busiest] {
			busiest = h.addr
		}
	}
	switch {
	case of[addr] >= g.limits.pendingPerAddr:
		g.dropOldest(addr)
	case len(g.pending) >= g.limits.pending:
		g.dropOldest(busiest)
	}
}

// dropOldest gives up the oldest handshake of an address, under g.mu.
func (g *gate) dropOldest(addr netip.Addr) {
	i := slices.IndexFunc(g.pending, func(h *handshake) bool { return h.addr == addr })
	g.pending[i].giveUp()
	g.pending = slices.Delete(g.pending, i, i+1)
}

// forget takes a handshake that is over off the list.
func (g *gate) forget(h *handshake) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.pending, h); i >= 0 {
		g.pending = slices.Delete(g.pending, i, i+1)
	}
}

func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *gate) isLeaving() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leaving
}

// leave stops accepting before it returns. Handshakes under way come to their end.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaving = true
	_ = g.raw.Close() // this process's part of it
}

// shut ends the gate for a reason, which Accept returns.
func (g *gate) shut(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed, g.err = true, err
	close(g.done)
	_ = g.raw.Close() // nothing is accepted any more
	for _, h := range g.pending {
		h.giveUp()
	}
}

// Accept implements net.Listener. The connections are of the type *tls.Conn,
// and their handshake is done.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.ready:
		return c, nil
	case <-g.done:
		return nil, g.err
	}
}

// Close implements net.Listener. It does not wait.
func (g *gate) Close() error {
	g.shut(net.ErrClosed)
	return nil
}

// Addr implements net.Listener.
func (g *gate) Addr() net.Addr { return g.raw.Addr() }

// addrOf returns the address of the other side without its port; the zero value
// where it has none, as in a test.
func addrOf(a net.Addr) netip.Addr {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return ap.Addr().Unmap()
	}
	return netip.Addr{}
}
