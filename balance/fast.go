package balance

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budgiehq/budgie/balance/internal/http1"
	"github.com/budgiehq/budgie/bunfile"
)

// The fast path of HTTP mode: one goroutine per client's connection reads requests,
// writes them to a kept-alive connection of a backend and copies the answers back.
// It does only what is plain and goes well. A request that is not plain, an answer
// that is not, that does not come soon or does not come at all, and everything that
// would take a second attempt, go to http.Server and what is behind it, with the
// client's connection and all that was read (see resumption). So there is one place
// that decides what is retried, what clients are told, and what a failure means.

// The sizes and times of the fast path.
const (
	fastSmall  = 4 << 10  // a connection's own buffer; requests that are longer are not plain
	fastBuffer = 16 << 10 // heads of backends that are longer are not plain
	fastSlack  = 512      // what a head may gain on its way
	fastLarge  = 64 << 10 // what longer bodies are copied with
	// fastPatience is how long, at most, an answer is waited for, or a part of one,
	// before somebody looks whether the client is still there.
	fastPatience = time.Second
)

// fastPath is what the connections of a frontend have in common.
type fastPath struct {
	h        *httpTraffic
	slow     *handover // of connections to http.Server
	wg       sync.WaitGroup
	conns    sync.Pool // of *fastConn
	buffers  sync.Pool // of *fastBuffers
	large    sync.Pool // of *[fastLarge]byte
	date     atomic.Pointer[dateText]
	patience time.Duration
}

// newFastPath returns the fast path of a frontend, nil where that has none: with TLS,
// with backends that speak HTTP/2, with a hash by what requests say, and where the
// system does not tell whether a kept-alive connection is still good.
func newFastPath(h *httpTraffic, cfg Config) *fastPath {
	byRequest := h.f.keys.used && h.f.keys.hash != (bunfile.Hash{})
	if !canPeek || cfg.TLS != nil || cfg.Protocol == bunfile.ProtocolH2C || byRequest || h.f.limits.noFast {
		return nil
	}
	p := &fastPath{h: h, slow: newHandover(h.f.Addr()), patience: fastPatience}
	if response := h.f.limits.response; response > 0 {
		p.patience = min(p.patience, response/2) // nobody here says that it is over
	}
	p.conns.New = func() any {
		s := new(fastConn)
		s.in = s.small[:]
		return s
	}
	p.buffers.New = func() any { return new(fastBuffers) }
	p.large.New = func() any { return new([fastLarge]byte) }
	return p
}

// serve takes connections until the door is closed.
func (p *fastPath) serve(d *door) {
	p.wg.Go(func() { p.h.server.Serve(p.h.http1(p.slow, nil)) }) // until stop
	p.h.f.acceptAll(d, func(c *clientConn) {
		p.wg.Go(func() {
			if direct := newRawIO(c.Conn); direct != nil {
				p.connection(c, direct)
			} else if !p.slow.give(c) { // TLS perhaps
				c.Close()
				c.ended()
			}
		})
	})
}

// stop is called when the server has been closed and no connection is left.
func (p *fastPath) stop() {
	p.slow.Close()
	p.wg.Wait()
}

// connection serves a client's connection until it ends or is handed over.
func (p *fastPath) connection(c *clientConn, direct *rawIO) {
	s := p.conns.Get().(*fastConn)
	s.begin(p, c, direct)
	over := s.serve()
	s.end()
	p.conns.Put(s)
	if over && p.slow.give(c) {
		return
	}
	if r := c.resumed.Swap(nil); r != nil {
		r.abandon(p.h.f.pool)
	}
	c.Close()
	c.ended()
}

// fastBuffers are lent to a request while it is under way.
type fastBuffers struct {
	out [fastBuffer + 2*fastSlack]byte // what is written
	in  [fastBuffer]byte               // what is read
}

// fastConn is a client's connection on the fast path. One goroutine uses it.
type fastConn struct {
	p      *fastPath
	c      *clientConn
	io     *rawIO // of c
	origin http1.Origin
	addr   netip.Addr // whose origin that is
	key    uint64     // of keySource
	client string     // its address with the port

	now             time.Time // when something was last read of a backend, or a request was there
	readBy, writeBy time.Time // deadlines that are set
	asked           bool      // there was a request

	in   []byte // of requests
	have int    // bytes in it

	request  http1.Request
	response http1.Response
	chunks   http1.Chunks
	buf      *fastBuffers
	out, got []byte // of an answer: what is to be written, parts of its body
	report   fastReport
	watch    fastWatch

	small [fastSmall]byte
}

func (s *fastConn) begin(p *fastPath, c *clientConn, direct *rawIO) {
	s.p, s.c, s.io, s.have, s.asked = p, c, direct, 0, false
	s.readBy, s.writeBy = time.Time{}, time.Time{}
	s.key, s.client = p.h.f.keys.ofConn(c), c.RemoteAddr().String()
	ap, _ := netip.ParseAddrPort(s.client) // the zero value is that of an address that is none
	if s.addr != ap.Addr() || !s.addr.IsValid() {
		s.addr, s.origin = ap.Addr(), http1.NewOrigin(ap.Addr())
	}
}

// end leaves nothing of the connection in what is used again.
func (s *fastConn) end() {
	s.release()
	s.p, s.c, s.io = nil, nil, nil
	s.request, s.report, s.out, s.got = http1.Request{}, fastReport{}, nil, nil
}

func (s *fastConn) borrow() {
	if s.buf == nil {
		s.buf = s.p.buffers.Get().(*fastBuffers)
	}
}

func (s *fastConn) release() {
	if s.buf != nil {
		s.p.buffers.Put(s.buf)
		s.buf = nil
	}
}

// What becomes of a connection.
type outcome int

const (
	goOn     outcome = iota // it is there for the next request
	hangUp                  // it is to be closed
	handOver                // http.Server is to have it
)

// serve serves requests. It returns true where http.Server is to go on with the
// connection.
func (s *fastConn) serve() (over bool) {
	for {
		next := s.next()
		if next == goOn {
			next = s.forward()
		}
		switch next {
		case hangUp:
			return false
		case handOver:
			s.c.early = append([]byte(nil), s.in[:s.have]...)
			s.c.Conn.SetDeadline(time.Time{}) // the server sets its own
			return true
		}
		rest := copy(s.in, s.in[s.used():s.have])
		if s.have = rest; rest == 0 {
			s.c.idle() // else the next request is here, and under way
		}
	}
}

// used is how many bytes the request had.
func (s *fastConn) used() int { return s.request.Head + int(s.request.Body) }

// next reads until a request is there as a whole, its head for the backend then being
// in buf.out. What is not plain, and what comes in parts, is handed over.
func (s *fastConn) next() outcome {
	l := &s.p.h.f.limits
	var began time.Time // when the first part of a head came
	for {
		if s.have > 0 {
			s.borrow()
			out, v := s.request.Parse(s.in[:s.have], s.buf.out[:0], &s.origin)
			switch {
			case v == http1.Plain && s.fits(out):
				return s.whole(out)
			case v != http1.Incomplete || s.have == len(s.in):
				return handOver
			}
		}
		now := time.Now()
		switch {
		case s.have > 0:
			if began.IsZero() {
				began, s.readBy = now, time.Time{}
				s.c.Conn.SetReadDeadline(now.Add(l.header))
			}
		case !s.asked:
			s.c.Conn.SetReadDeadline(now.Add(l.header))
		default:
			if due(&s.readBy, now, l.keepAlive, l.keepAlive/8) {
				s.c.Conn.SetReadDeadline(s.readBy)
			}
			s.release() // nobody knows for how long
		}
		n, err := s.io.Read(s.in[s.have:])
		if n == 0 {
			if err != nil && s.have > 0 && !isTimeout(err) {
				return handOver
			}
			return hangUp
		}
		s.have += n
		if s.c.state.Load() != connBusy && !s.c.busy() {
			return hangUp // a drain closed it
		}
	}
}

// fits reports whether a request is to be forwarded from here: with all of its body,
// and within the bounds.
func (s *fastConn) fits(out []byte) bool {
	r := &s.request
	limit := s.p.h.f.limits.clients.Body
	return r.Body <= int64(s.have-r.Head) && (limit == 0 || r.Body <= limit) &&
		len(out)+int(r.Body) <= len(s.buf.out) && r.Head <= s.p.h.f.limits.maxHeader
}

// whole completes a request.
func (s *fastConn) whole(out []byte) outcome {
	s.asked = true
	s.report = fastReport{out: len(out) + int(s.request.Body)}
	copy(s.buf.out[len(out):], s.in[s.request.Head:s.used()])
	return goOn
}

// due reports whether a deadline has to be set anew, to span from now: where the one
// that is set would come earlier than that by more than the slack. Setting one costs
// about as much as everything else here, but for the system calls.
func due(set *time.Time, now time.Time, span, slack time.Duration) bool {
	if set.Sub(now) >= span-slack {
		return false
	}
	*set = now.Add(span)
	return true
}

// write writes to the client.
func (s *fastConn) write(p []byte) error {
	stall := s.p.h.f.limits.stall
	if due(&s.writeBy, s.now, stall, stall/8) {
		s.c.Conn.SetWriteDeadline(s.writeBy)
	}
	_, err := s.io.Write(p)
	return err
}

// acceptAll lets fn have the connections that come in at a door, which must not
// block, until that is closed.
func (f *frontend) acceptAll(d *door, fn func(*clientConn)) {
	defer d.acceptEnded()
	for {
		c, err := f.accept(d)
		if err != nil {
			if !d.draining.Load() {
				f.log.Error("frontend no longer accepts connections", "addr", d.Addr().String(), "err", err)
			}
			return
		}
		fn(c.(*clientConn))
	}
}

// accept returns the next connection that comes in at a listener. It is an error only
// that this was closed: others pass, and must not end the frontend.
func (f *frontend) accept(ln net.Listener) (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := ln.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return c, err
		}
		// Too many open files, most likely: it passes as connections end.
		f.log.Error("accepting a connection failed", "err", err, "again in", pause)
		select {
		case <-time.After(pause):
		case <-f.ctx.Done():
			return nil, net.ErrClosed
		}
	}
}
