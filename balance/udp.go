package balance

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// udpFrontend is a frontend of ModeUDP: a socket, and a session for each client
// that wrote to it lately. Its goroutines are one that receives, one per session
// and one that drains, and all have ended when done is closed.
type udpFrontend struct {
	name   string
	log    *slog.Logger
	limits limits
	pool   *pool
	keys   keySource
	socket datagrams
	dial   func(netip.AddrPort) (net.Conn, error)
	// tunnel connects to backends that are no addresses; nil where there are none.
	tunnel  func(context.Context, string) (net.Conn, error)
	buffers *sync.Pool // of *[maxDatagram]byte
	witness *witness   // nil if nobody observes
	epoch   time.Time  // sessions count from it, in steps that no clock change disturbs

	wg       sync.WaitGroup  // sessions; also moves of one while the frontend drains
	hold     <-chan struct{} // closed when it may receive, nil for at once
	left     chan struct{}   // nothing more is to be received
	closing  chan struct{}   // the socket is about to be closed
	received chan struct{}   // the receiving goroutine has ended
	done     chan struct{}

	once     sync.Once // of left
	mu       sync.Mutex
	sessions map[flow]*session
	// The sessions that got no answer before the last datagram of their client, those
	// of them that were seen to have got one since, and the others, each in the order
	// of that datagram, the latest first.
	fresh, told, settled list.List
	leaving              map[*session]struct{}       // no longer in the table
	ends                 map[netip.AddrPort]struct{} // addresses of backends
	since                time.Time                   // when draining began
	isCut                bool                        // what is under way was cut off
	shed, unserved       throttle

	// For snapshots, which are taken with and without the lock: sessions that are
	// open, sessions since the beginning, and datagrams that no backend took.
	open           atomic.Int64
	begun, dropped atomic.Uint64
}

// udpDial opens a socket that is connected to a backend.
func udpDial(to netip.AddrPort) (net.Conn, error) {
	return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
}

// listenUDP starts a frontend of a valid configuration.
func (p *Proxy) listenUDP(cfg Config, alg algorithm) Frontend {
	log := p.log.With("service", cfg.Name)
	f := &udpFrontend{
		name:     cfg.Name,
		log:      log,
		limits:   p.limits,
		pool:     newPool(alg, nil, log),
		keys:     newKeySource(cfg),
		socket:   newDatagrams(cfg.PacketConn, log),
		dial:     p.dialUDP,
		tunnel:   cfg.Dial,
		buffers:  &sync.Pool{New: func() any { return new([maxDatagram]byte) }},
		epoch:    time.Now(),
		hold:     cfg.Hold,
		left:     make(chan struct{}),
		closing:  make(chan struct{}),
		received: make(chan struct{}),
		done:     make(chan struct{}),
		sessions: map[flow]*session{},
		leaving:  map[*session]struct{}{},
	}
	f.pool.slow = cfg.SlowStart
	f.witness = newWitness(cfg, f.Addr, f.snapshot)
	f.pool.witness = f.witness
	go f.receive()
	return f
}

// snapshot is what observers may ask for.
func (f *udpFrontend) snapshot() Snapshot {
	return Snapshot{Connections: int(f.open.Load()), Accepted: f.begun.Load(), Refused: f.dropped.Load(), Backends: f.pool.status()}
}

func (f *udpFrontend) Addr() net.Addr { return f.socket.LocalAddr() }

func (f *udpFrontend) Status() []BackendStatus { return f.pool.status() }

func (f *udpFrontend) Update(backends []Backend) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.since.IsZero() {
		return
	}
	_, removed := f.pool.update(backends)
	f.ends = make(map[netip.AddrPort]struct{}, len(backends))
	for _, b := range backends {
		if a, err := netip.ParseAddrPort(b.Addr); err == nil {
			f.ends[unmapped(a)] = struct{}{}
		}
	}
	if len(removed) == 0 {
		return
	}
	for _, s := range f.sessions {
		if slices.Contains(removed, s.member) {
			f.detach(s)
		}
	}
}

func (f *udpFrontend) Shutdown(ctx context.Context) error {
	f.beginDrain()
	select {
	case <-f.done:
		return nil
	default:
	}
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
	}
	if n := f.cutOff(); n > 0 {
		f.log.Warn("UDP sessions cut off: they did not become quiet in time", "sessions", n)
	}
	<-f.done
	return ctx.Err()
}

// Leave implements Leaver. Answers go on to be sent from the socket.
func (f *udpFrontend) Leave() {
	f.once.Do(func() {
		close(f.left)
		f.socket.SetReadDeadline(time.Now()) // fails only on one that is closed
	})
	<-f.received
	f.beginDrain()
}

// isClosed reports whether a channel without values is closed.
func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// beginDrain turns newcomers away, gives the sessions until they are quiet,
// and starts what waits for that, once.
func (f *udpFrontend) beginDrain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.since.IsZero() {
		return
	}
	f.since = time.Now()
	for _, s := range f.sessions {
		s.conn.SetReadDeadline(f.expiry(s)) // fails only on one that ends
	}
	go f.drain()
}

// drain ends the frontend after its last session. Whoever called Shutdown waits
// for it.
func (f *udpFrontend) drain() {
	defer close(f.done)
	f.wg.Wait()
	close(f.closing)
	f.socket.Close()
	<-f.received
	f.witness.closed()
}

// cutOff ends all sessions and returns how many there were.
func (f *udpFrontend) cutOff() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.isCut = true
	n := len(f.sessions)
	for _, s := range f.sessions {
		s.cut = true
		f.end(s, result{answered: true})
	}
	for s := range f.leaving {
		s.conn.Close()
	}
	f.socket.SetWriteDeadline(f.since) // for sessions that wait for room to answer
	return n
}

// receive takes datagrams of clients until the socket is closed.
func (f *udpFrontend) receive() {
	defer close(f.received)
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-f.left:
			return
		case <-f.closing:
			return
		}
	}
	buf := make([]byte, maxDatagram)
	var pause time.Duration
	for {
		n, from, err := f.socket.receive(buf)
		switch {
		case err == nil:
			pause = 0
			f.take(from, buf[:n])
			continue
		case errors.Is(err, net.ErrClosed):
			select {
			case <-f.closing:
			default:
				f.log.Error("frontend no longer receives datagrams", "addr", f.Addr().String(), "err", err)
			}
			return
		case isClosed(f.left):
			return
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		f.log.Error("receiving a datagram failed", "err", err, "again in", pause)
		select {
		case <-time.After(pause):
		case <-f.closing:
		}
	}
}

// unmapped is an address as one of IPv4 where it is one of those.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// take sends a client's datagram to the backend of its session, or begins one.
func (f *udpFrontend) take(from flow, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, is := f.ends[unmapped(from.client)]; is {
		// Of a backend, or of somebody who says so: what answers there would answer
		// itself, and so on without an end.
		f.dropped.Add(1)
		return
	}
	s := f.sessions[from]
	switch {
	case s != nil:
		f.touch(s)
		if err := s.send(b); err != nil {
			f.fail(s, err)
			f.forward(from, b, append(s.tried, s.member))
		}
	case f.since.IsZero():
		f.forward(from, b, nil)
	}
}

// forward begins a session with the given datagram, at a backend that is not
// among tried. What no backend takes is dropped. The lock is held.
func (f *udpFrontend) forward(from flow, b []byte, tried []*member) {
	if f.isCut {
		return
	}
	if len(f.sessions) >= f.limits.udpSessions {
		f.shedOne()
	}
	last, key := ErrNoBackend, f.keys.ofClient(from.client.Addr())
	for len(tried) < maxAttempts {
		m := f.pool.pick(tried, key)
		if m == nil {
			break
		}
		conn, err := f.connect(m)
		if err != nil {
			ours := exhausted(err)
			f.pool.release(m, result{err: err, fatal: !ours, unreachable: !ours, blameless: ours})
		} else {
			s := f.begin(from, m, conn, tried)
			if err = s.send(b); err == nil {
				return
			}
			f.fail(s, err)
		}
		last = err
		tried = append(tried, m)
	}
	f.dropped.Add(1)
	if n, ok := f.unserved.next(time.Now()); ok {
		f.log.Warn("datagrams dropped: no backend could take them", "client", from.client.String(),
			"datagrams", n, "attempts", len(tried), "err", last)
	}
}

// connect opens a socket, or a tunnel, to a backend. It does not wait: to look a name
// up, say, would hold up all clients.
func (f *udpFrontend) connect(m *member) (udpConn, error) {
	to, err := netip.ParseAddrPort(m.backend.Addr)
	if err != nil && f.tunnel != nil {
		return f.newTunnelConn(m.backend.Addr), nil
	}
	if err != nil {
		return nil, fmt.Errorf("backend %s: in UDP mode its address has to be an IP address with a port: %w", m.backend.ID, err)
	}
	c, err := f.dial(to)
	if err != nil {
		return nil, err
	}
	return newUDPConn(c, f.buffers), nil
}
