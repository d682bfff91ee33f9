package balance

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// flow is who talks to whom: a client's address, and the address of this machine
// that it writes to, which is not valid where the frontend has only one.
type flow struct {
	client netip.AddrPort
	local  netip.Addr
}

// session is what a client and a backend have to do with each other. A socket
// of its own, connected to the backend, tells the answers to different clients
// apart. What no lock is named for is set once or belongs to the session's
// goroutine.
type session struct {
	f      *udpFrontend
	flow   flow
	member *member
	conn   udpConn
	reply  replyPath
	began  time.Time
	sent   atomic.Int64 // bytes that went to the client
	first  atomic.Int64 // from began to the first answer

	last     atomic.Int64 // the last datagram of either side, since the frontend's epoch
	answered atomic.Bool  // the backend has said something
	awaiting atomic.Bool  // the last word was the client's

	// Guarded by the frontend's lock.
	tried   []*member     // refused what this session was begun for
	gone    bool          // not in the table any more
	result  result        // since then
	cut     bool          // the frontend was shut down, and did not wait longer
	got     int64         // bytes that came from the client
	until   time.Time     // of one that is leaving: its end
	in      *list.List    // fresh, told or settled, of the frontend
	place   *list.Element // in there
	pending []byte        // a copy of the client's last datagram
	kept    bool          // whether it is one, and not too long for it
}

// keptMax is how long a datagram may be of which a copy is kept.
const keptMax = 2048

// begin makes a session. The frontend's lock is held.
func (f *udpFrontend) begin(from flow, m *member, conn udpConn, tried []*member) *session {
	s := &session{f: f, flow: from, member: m, conn: conn, reply: f.socket.path(from), tried: tried, in: &f.fresh, began: time.Now()}
	s.last.Store(int64(time.Since(f.epoch)))
	s.place = s.in.PushFront(s)
	f.sessions[from] = s
	f.begun.Add(1)
	f.open.Add(1)
	f.wg.Go(s.run)
	return s
}

// touch notes a datagram of the client. The lock is held.
func (f *udpFrontend) touch(s *session) {
	s.last.Store(int64(time.Since(f.epoch)))
	if s.in != &f.settled && s.answered.Load() {
		s.in.Remove(s.place)
		s.in = &f.settled
		s.place = s.in.PushFront(s)
		return
	}
	s.in.MoveToFront(s.place)
}

// send passes a datagram of the client on. An error is the backend's. The lock
// is held.
func (s *session) send(b []byte) error {
	s.awaiting.Store(true) // before the answer can be here
	s.got += int64(len(b))
	if s.kept = len(b) <= keptMax; s.kept {
		s.pending = append(s.pending[:0], b...)
	}
	if err := s.conn.send(b); err != nil && !undelivered(err) {
		return err
	}
	return nil
}

// remove takes a session off the table, once. The lock is held.
func (f *udpFrontend) remove(s *session, r result) {
	if s.gone {
		return
	}
	s.gone = true
	f.open.Add(-1)
	delete(f.sessions, s.flow)
	s.in.Remove(s.place)
	// An answer may come at this moment: who marks the session first accounts for
	// what was awaited.
	r.silent = s.answered.CompareAndSwap(false, true)
	r.answered = r.answered || !r.silent
	s.result = r
	f.pool.release(s.member, r)
}

// end ends a session. The lock is held.
func (f *udpFrontend) end(s *session, r result) {
	f.remove(s, r)
	s.conn.Close()
}

// fail ends a session whose backend cannot be reached. The lock is held.
func (f *udpFrontend) fail(s *session, err error) {
	// The pool tells, once, that it is taken out of rotation.
	f.log.Debug("backend does not take datagrams", "backend", s.member.backend.ID, "addr", s.member.backend.Addr,
		"client", s.flow.client.String(), "err", err)
	f.end(s, result{err: err, fatal: true, unreachable: true})
}

// detach ends a session whose backend has left: what the client sends from now
// on goes elsewhere. An answer that is due may still pass, for a moment. The lock
// is held.
func (f *udpFrontend) detach(s *session) {
	if !s.awaiting.Load() {
		f.end(s, result{answered: true})
		return
	}
	f.remove(s, result{answered: true})
	s.until = time.Now().Add(f.limits.udpAnswer)
	s.conn.SetReadDeadline(s.until) // fails only on one that ends
	f.leaving[s] = struct{}{}
}

// shedOne ends a session to make room: the longest silent of those that got no
// answer, which a flood of made-up addresses leaves behind, else the longest
// silent of all. The lock is held.
func (f *udpFrontend) shedOne() {
	victim := f.unanswered()
	if victim == nil {
		for _, l := range []*list.List{&f.told, &f.settled} {
			if e := l.Back(); e != nil {
				if s := e.Value.(*session); victim == nil || s.last.Load() < victim.last.Load() {
					victim = s
				}
			}
		}
	}
	if victim == nil {
		return
	}
	f.end(victim, result{answered: true, shed: true})
	if n, ok := f.shed.next(time.Now()); ok {
		f.log.Warn("UDP sessions ended early to make room for others", "sessions", n, "limit", f.limits.udpSessions)
	}
}

// unanswered returns the longest silent of those that got no answer, nil if there is
// none. Those that it finds to have got one are not looked at again for that. The lock is
// held.
func (f *udpFrontend) unanswered() *session {
	for {
		e := f.fresh.Back()
		if e == nil {
			return nil
		}
		s := e.Value.(*session)
		if !s.answered.Load() {
			return s
		}
		f.fresh.Remove(e)
		s.in = &f.told
		s.place = s.in.PushFront(s)
	}
}

// run passes the backend's datagrams on to the client until the session ends.
func (s *session) run() {
	defer s.ended()
	deliver := s.answer // made once, as it costs memory
	for s.rearm() {
		var err error
		for err == nil {
			err = s.conn.receive(deliver)
		}
		switch {
		case isTimeout(err) || undelivered(err):
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.broke(err)
			return
		}
	}
}

// answer passes one datagram on to the client.
func (s *session) answer(b []byte) {
	s.last.Store(int64(time.Since(s.f.epoch)))
	s.awaiting.Store(false)
	s.sent.Add(int64(len(b)))
	if s.answered.CompareAndSwap(false, true) {
		took := time.Since(s.began)
		s.first.Store(int64(took))
		s.f.pool.answered(s.member, answer{took: took})
	}
	if err := s.f.socket.send(b, &s.reply); err != nil && !errors.Is(err, net.ErrClosed) {
		s.f.log.Debug("answer not sent", "client", s.flow.client.String(), "bytes", len(b), "err", err)
	}
}

// rearm sets when the session is to look at itself again, and reports false
// where its time is over.
func (s *session) rearm() bool {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	until := f.expiry(s)
	// Under the lock no datagram of the client can come in between.
	if !time.Now().Before(until) || s.conn.SetReadDeadline(until) != nil {
		f.remove(s, result{answered: true})
		return false
	}
	return true
}

// expiry is when a session ends if nothing else comes. The lock is held.
func (f *udpFrontend) expiry(s *session) time.Time {
	last := f.epoch.Add(time.Duration(s.last.Load()))
	switch {
	case !s.until.IsZero():
		return s.until
	case f.since.IsZero():
		return last.Add(f.limits.udpIdle)
	case s.awaiting.Load():
		return later(last.Add(f.limits.udpAnswer), f.since.Add(f.limits.idleQuiet))
	}
	return later(last, f.since).Add(f.limits.idleQuiet)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// broke moves the client to another backend, since this one cannot be reached.
// A datagram that was refused, or is most likely to be the one, goes there too.
func (s *session) broke(err error) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.gone {
		return
	}
	f.fail(s, err)
	if s.kept && s.awaiting.Load() {
		f.forward(s.flow, s.pending, append(s.tried, s.member))
	}
}

// ended gives back what the session holds.
func (s *session) ended() {
	s.conn.Close()
	s.f.mu.Lock()
	delete(s.f.leaving, s)
	s.f.mu.Unlock()
	if s.f.witness != nil {
		s.f.witness.Ended(s.f.witness.source, s.exchange())
	}
}

// exchange is what an observer is told of a session that has ended.
func (s *session) exchange() Exchange {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	e := Exchange{
		Backend: s.member.identity(), Client: s.flow.client.String(), Protocol: "UDP", GRPCStatus: -1,
		Received: s.got, Sent: s.sent.Load(), Began: s.began, Duration: time.Since(s.began),
		FirstByte: time.Duration(s.first.Load()), Attempts: len(s.tried) + 1,
	}
	switch {
	case s.result.err != nil:
		e.Cause, e.Err = CauseRefused, s.result.err
	case s.cut || s.result.shed:
		e.Cause, e.Err = CauseCutOff, errRoom
	}
	return e
}
