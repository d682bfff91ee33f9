package balance

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budgiehq/budgie/internal/rawconn"
)

// connSet is a set of open connections. After closeAll it closes whatever is
// added.
type connSet struct {
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	clients map[netip.Addr]int // how many of them are of an address
	closed  bool
	epoch   time.Time // clientConn counts from it, in steps that no clock change disturbs
}

func newConnSet() *connSet {
	return &connSet{conns: map[net.Conn]struct{}{}, clients: map[netip.Addr]int{}, epoch: time.Now()}
}

func (s *connSet) add(c net.Conn) {
	s.mu.Lock()
	closed := s.closed
	s.conns[c] = struct{}{}
	if cc, ok := c.(*clientConn); ok {
		s.clients[cc.addr]++
	}
	s.mu.Unlock()
	if closed {
		c.Close()
	}
}

func (s *connSet) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	if cc, ok := c.(*clientConn); ok {
		if s.clients[cc.addr]--; s.clients[cc.addr] == 0 {
			delete(s.clients, cc.addr)
		}
	}
}

func (s *connSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// each calls fn for every connection, without the lock.
func (s *connSet) each(fn func(net.Conn)) {
	s.mu.Lock()
	conns := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		fn(c)
	}
}

// closeAll closes every connection by the given function, and those added later
// at once.
func (s *connSet) closeAll(closeOne func(net.Conn)) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.each(closeOne)
}

func closeConn(c net.Conn) { c.Close() }

// abortConn closes a connection with a reset, so that the other end does not take
// what it has got for everything. TLS does not get to say goodbye, which would mean that.
func abortConn(c net.Conn) {
	if w, ok := c.(*clientConn); ok {
		w.linger.Store(false)
	}
	rawconn.Reset(c)
}

// The states of a client's connection.
const (
	connFresh   = iota // accepted, nothing received but a handshake
	connBusy           // a request, or the beginning of one, is here
	connIdle           // between two requests
	connClosing        // closed by a drain; nothing is received any more
)

// clientConn is a connection that a frontend accepted. It tells quiet
// connections from busy ones more exactly than http.Server: one is busy from the
// first byte of a request on, not from the end of its header. And it bounds
// writes, which http.Server can only do for a whole response.
type clientConn struct {
	net.Conn
	set   *connSet
	addr  netip.Addr // the client's
	stall time.Duration
	state atomic.Int32
	// linger: the client may still be sending when this end closes.
	linger atomic.Bool
	quiet  atomic.Int64           // when it was accepted or became idle, since the set's epoch
	h2     atomic.Pointer[h2Conn] // what it became, nil while it speaks HTTP/1.1
	h1     *h1Conn                // what http.Server reads it through, nil in other modes

	// What the fast path leaves to http.Server: what it has read already, and a
	// request that it has begun, nil if there is none.
	early   []byte
	resumed atomic.Pointer[resumption]
}

func (s *connSet) addClient(c net.Conn, addr netip.Addr, stall time.Duration) *clientConn {
	cc := &clientConn{Conn: c, set: s, addr: addr, stall: stall}
	cc.rest()
	s.add(cc)
	return cc
}

func (c *clientConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	if c.h2.Load() != nil {
		// What comes need not be a request. Its server tells, a moment later.
		c.rest()
		if c.state.Load() == connClosing {
			return 0, net.ErrClosed
		}
		return n, err
	}
	if c.state.Load() != connBusy && !c.busy() {
		return 0, net.ErrClosed
	}
	return n, err
}

// busy marks the connection as having received something, and reports false if
// it had been given up by then.
func (c *clientConn) busy() bool {
	for {
		s := c.state.Load()
		if s == connClosing {
			return false
		}
		if c.state.CompareAndSwap(s, connBusy) {
			return true
		}
	}
}

func (c *clientConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// NetConn returns what it is on.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending direction; http.Server looks for it to let a
// client read an answer that came before the end of its request.
func (c *clientConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Conn.Close()
}

// lingerMax is how long a client may go on sending what nobody reads.
const lingerMax = time.Second

// Close closes the connection. Where the client is still sending it reads that
// first, since the kernel answers it with a reset, which would take the response
// away that the client has not read yet (RFC 9112 section 9.6).
func (c *clientConn) Close() error {
	if c.linger.Swap(false) && c.CloseWrite() == nil && c.Conn.SetReadDeadline(time.Now().Add(lingerMax)) == nil {
		io.Copy(io.Discard, c.Conn) // until its end or the deadline
	}
	return c.Conn.Close()
}

// rest begins the time for which nothing comes.
func (c *clientConn) rest() { c.quiet.Store(int64(time.Since(c.set.epoch))) }

// greeted marks the connection as one on which nothing but a handshake came.
func (c *clientConn) greeted() {
	c.rest()
	c.state.CompareAndSwap(connBusy, connFresh)
}

// idle marks the connection as waiting for its next request.
func (c *clientConn) idle() {
	c.rest()
	c.state.CompareAndSwap(connBusy, connIdle)
}

// closeIfQuiet closes a connection on which nothing was received for a while,
// counted from its last request or the beginning of the drain. One that speaks
// HTTP/2 is given notice before.
func (c *clientConn) closeIfQuiet(drain time.Time, l limits) {
	if h2 := c.h2.Load(); h2 != nil {
		h2.leave()
	}
	s := c.state.Load()
	rest := l.idleQuiet
	switch s {
	case connFresh:
		rest = l.freshQuiet
	case connIdle:
	default:
		return
	}
	quiet := min(time.Since(c.set.epoch)-time.Duration(c.quiet.Load()), time.Since(drain))
	if quiet < rest {
		return
	}
	if c.state.CompareAndSwap(s, connClosing) {
		c.Conn.Close()
	}
}

// ended says that nobody uses the connection any more.
func (c *clientConn) ended() { c.set.remove(c) }
