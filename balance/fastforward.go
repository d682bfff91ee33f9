package balance

import (
	"errors"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/balance/internal/http1"
)

// fastReport is what becomes of a request.
type fastReport struct {
	out   int // bytes of it in buf.out
	began time.Time
	asked time.Time // when it was sent
	first time.Duration
	sent  int64 // bytes of the body that went to the client
	err   error // the backend's
	lost  error // the client's
}

// forward sends the request, which is in buf.out, to a backend, and the response to
// the client.
func (s *fastConn) forward() outcome {
	f := s.p.h.f
	s.now = time.Now()
	s.report.began = s.now
	if f.pool.indirect.Load() > 0 {
		return handOver
	}
	m := f.pool.pick(nil, s.key)
	if m == nil {
		return handOver // to be told so, or to wait
	}
	u, next := s.ask(m)
	if u == nil {
		return next
	}
	return s.answer(m, u)
}

// ask sends the request to a member and waits for the head of its answer, which is
// in response then, and for the client in buf.out. The connection is nil where
// somebody else goes on with that.
func (s *fastConn) ask(m *member) (*upstreamConn, outcome) {
	f := s.p.h.f
	now := s.now
	s.report.asked = now
	u, reused, err := s.p.connect(m, now)
	if err != nil {
		return nil, s.resume(&resumption{m: m, began: s.report.began, asked: now, err: err})
	}
	sentAt, readAt := u.sent.Load(), u.received.Load()
	leave := func(early []byte, err error) (*upstreamConn, outcome) {
		return nil, s.resume(&resumption{
			m: m, began: s.report.began, asked: s.report.asked, conn: u, reused: reused, sentAt: sentAt, readAt: readAt,
			early: append([]byte(nil), early...), err: err,
		})
	}
	if due(&u.writeBy, now, f.limits.stall, f.limits.stall/8) {
		u.Conn.SetWriteDeadline(u.writeBy)
	}
	n, err := u.io.Write(s.buf.out[:s.report.out])
	u.sent.Add(int64(n))
	if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return leave(nil, err)
	} // else see upstreamConn.Write
	for have := 0; ; {
		if due(&u.readBy, now, s.p.patience, s.p.patience/2) {
			u.Conn.SetReadDeadline(u.readBy)
		}
		n, err := u.io.Read(s.buf.in[have:])
		now = time.Now()
		u.received.Add(int64(n))
		if have += n; n > 0 {
			out, v := s.response.Parse(s.buf.in[:have], s.buf.out[:0], s.request.IsHead())
			if v == http1.Plain {
				s.headed(m, out, have, now)
				return u, goOn
			}
			// A head that goes on and on is for those who know when that is over.
			if v == http1.Incomplete && have < len(s.buf.in) && err == nil && now.Sub(s.report.asked) < s.p.patience {
				continue
			}
		}
		if have > 0 || isTimeout(err) {
			err = nil // it may still become an answer
		}
		return leave(s.buf.in[:have], err)
	}
}

// headed notes that the answer has begun, of which buf.in has some bytes. What the
// client gets of that is completed in buf.out.
func (s *fastConn) headed(m *member, out []byte, have int, now time.Time) {
	s.now = now
	s.p.h.f.pool.answered(m, answer{failed: s.response.Status >= 500, took: now.Sub(s.report.asked)})
	if s.p.h.f.witness != nil {
		s.report.first = now.Sub(s.report.began)
	}
	if !s.response.Dated {
		out = s.p.appendDate(out, now) // RFC 9110 section 6.6.1
	}
	draining := s.p.h.f.door.draining.Load()
	if s.request.Close = s.request.Close || draining; s.request.Close {
		// There is something that nobody will read, or there may be: a client knows
		// that its connection ends when it wants that itself, or reads it in the answer.
		s.c.linger.Store(draining || s.have > s.used())
		out = append(out, "Connection: close\r\n"...)
	}
	s.out, s.got = append(out, "\r\n"...), s.buf.in[s.response.Head:have]
}

// resume hands the request over.
func (s *fastConn) resume(r *resumption) outcome {
	s.c.resumed.Store(r)
	return handOver
}

// connect returns a connection to a member, and whether it was used before.
func (p *fastPath) connect(m *member, now time.Time) (u *upstreamConn, reused bool, err error) {
	f := p.h.f
	if u := m.idle.take(now, f.limits.upstreamIdle); u != nil {
		return u, true, nil
	}
	c, err := f.dial(f.ctx, m.backend.Addr)
	if err != nil {
		return nil, false, err
	}
	u = &upstreamConn{Conn: c, set: f.dials, stall: f.limits.stall}
	if u.direct = newRawIO(c); u.direct != nil {
		u.io = u.direct
	} else {
		u.io = c
		f.pool.isIndirect(m)
	}
	f.dials.add(u)
	return u, false, nil
}
