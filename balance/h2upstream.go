package balance

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// What a backend may send ahead of a client that does not read, per response.
	// That of a connection has no such bound: clients share it, and one that does
	// not read must not stop the others.
	h2BackendWindow = 256 << 10
	// How often a silent connection is looked after. gRPC servers take more than
	// two pings in five minutes for an attack (gRPC A8), and TCP asks meanwhile.
	h2BackendPing = 6 * time.Minute
)

// h2Upstream is the HTTP/2 connections of a frontend to its backends. It keeps
// them itself, as http.Transport would open one for each request of a burst, and
// would send some requests again by rules of its own.
type h2Upstream struct {
	f         *frontend
	transport *http.Transport // makes the connections

	mu sync.Mutex
	of map[*member]*h2Links
}

// h2Links is the connections to one member. What is not atomic is guarded by
// h2Upstream's lock.
type h2Links struct {
	conns   []*h2Link
	dialing *h2Dial       // the one attempt under way, nil if none
	changed chan struct{} // closed when a connection may have room, nil if nobody waits
	waiting atomic.Int32
	proven  atomic.Bool // it has answered over HTTP/2
}

// h2Link is a connection, and what it is on.
type h2Link struct {
	*http.ClientConn
	under net.Conn
}

// h2LinkKey is that of the h2Link, in a context, for which a connection is made.
type h2LinkKey struct{}

// h2Dial is an attempt to connect.
type h2Dial struct {
	done chan struct{}
	err  error // set before done is closed
}

func newH2Upstream(f *frontend) *h2Upstream {
	tr := newUpstream(f)
	tr.Protocols = onlyH2C()
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if l, ok := ctx.Value(h2LinkKey{}).(*h2Link); ok {
			l.under = c
		}
		return c, err
	}
	tr.ResponseHeaderTimeout = 0 // h2Attempt has it, since not all requests have one
	tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: h2BackendWindow, SendPingTimeout: h2BackendPing, PingTimeout: h2PingTimeout}
	return &h2Upstream{f: f, transport: tr, of: map[*member]*h2Links{}}
}

func onlyH2C() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// reserve returns a connection to a member with room for one more request, which
// is reserved, and whether it was there before. Where there is none it connects,
// once for all that wait.
func (u *h2Upstream) reserve(ctx context.Context, m *member) (conn *h2Link, reused bool, err error) {
	for reused = true; ; reused = false {
		conn, dial, changed, done := u.look(m)
		if conn != nil {
			return conn, reused, nil
		}
		select {
		case <-dial.done:
			err = dial.err
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		done()
		if err != nil {
			return nil, false, err
		}
	}
}

// look returns a connection with room, or what to wait for until done is called.
func (u *h2Upstream) look(m *member) (conn *h2Link, dial *h2Dial, changed chan struct{}, done func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.links(m)
	for _, c := range l.conns {
		if c.Reserve() == nil {
			return c, nil, nil, nil
		}
	}
	if l.dialing == nil {
		l.dialing = &h2Dial{done: make(chan struct{})}
		go u.dial(m, l, l.dialing)
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	l.waiting.Add(1)
	return nil, l.dialing, l.changed, func() { l.waiting.Add(-1) }
}

// links returns the connections to a member, without those that have ended. The
// lock is held.
func (u *h2Upstream) links(m *member) *h2Links {
	l := u.of[m]
	if l == nil {
		l = new(h2Links)
		u.of[m] = l
	}
	l.conns = slices.DeleteFunc(l.conns, func(c *h2Link) bool { return c.Err() != nil })
	return l
}

func (u *h2Upstream) dial(m *member, l *h2Links, d *h2Dial) {
	link := new(h2Link)
	conn, err := u.transport.NewClientConn(context.WithValue(u.f.ctx, h2LinkKey{}, link), "http", m.backend.Addr)
	link.ClientConn = conn
	u.mu.Lock()
	l.dialing, d.err = nil, err
	if err == nil {
		l.conns = append(l.conns, link)
	}
	u.mu.Unlock()
	close(d.done)
	if err == nil {
		// The hook may be called by those who hold the lock.
		conn.SetStateHook(func(c *http.ClientConn) {
			if l.waiting.Load() > 0 || m.gone.Load() || c.Err() != nil {
				go u.tidy(m)
			}
		})
	}
}

// tidy lets go of what has ended, and of what nobody needs since the member is
// gone, and lets those that wait look again.
func (u *h2Upstream) tidy(m *member) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.links(m)
	if m.gone.Load() {
		l.conns = slices.DeleteFunc(l.conns, func(c *h2Link) bool {
			idle := c.InFlight() == 0
			if idle {
				c.Close()
			}
			return idle
		})
		if len(l.conns) == 0 && l.dialing == nil {
			delete(u.of, m)
		}
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// left closes the connections to members that are gone. Those with requests under
// way are closed after that.
func (u *h2Upstream) left() {
	u.mu.Lock()
	var gone []*member
	for m := range u.of {
		if m.gone.Load() {
			gone = append(gone, m)
		}
	}
	u.mu.Unlock()
	for _, m := range gone {
		u.tidy(m)
	}
}

// prove notes that a member has answered over HTTP/2.
func (u *h2Upstream) prove(m *member) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.links(m).proven.Store(true)
}

// isProven reports whether a member has ever answered over HTTP/2. Before that
// it may be one of HTTP/1.1, which a client asks for what it does not have.
func (u *h2Upstream) isProven(m *member) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.links(m).proven.Load()
}
