package balance

import (
	"sync"
	"time"
)

// idleConns are a member's connections that the fast path keeps for further
// requests; the last one that was put aside comes first. The zero value is empty. Its
// methods may be called concurrently.
type idleConns struct {
	mu     sync.Mutex
	conns  []*upstreamConn
	closed bool
	reaper *time.Timer
	armed  bool
}

// maxIdleConns is how many are kept.
const maxIdleConns = 1024

// take returns a connection that is still good and has rested for less than a time,
// nil if there is none.
func (s *idleConns) take(now time.Time, rest time.Duration) *upstreamConn {
	for {
		s.mu.Lock()
		n := len(s.conns)
		if n == 0 {
			s.mu.Unlock()
			return nil
		}
		u := s.conns[n-1]
		s.conns[n-1] = nil
		s.conns = s.conns[:n-1]
		s.mu.Unlock()
		// What has something to say has ended, or sent what nobody asked for.
		if now.Sub(u.rests) < rest && u.direct.quiet() {
			return u
		}
		u.Close()
	}
}

// put puts a connection aside.
func (s *idleConns) put(u *upstreamConn, now time.Time, rest time.Duration) {
	u.rests = now
	s.mu.Lock()
	if s.closed || len(s.conns) >= maxIdleConns {
		s.mu.Unlock()
		u.Close()
		return
	}
	s.conns = append(s.conns, u)
	if !s.armed {
		s.armed = true
		if s.reaper == nil {
			s.reaper = time.AfterFunc(rest, func() { s.reap(rest) })
		} else {
			s.reaper.Reset(rest)
		}
	}
	s.mu.Unlock()
}

// reap closes those that have rested for a time.
func (s *idleConns) reap(rest time.Duration) {
	s.mu.Lock()
	now, old := time.Now(), 0
	for old < len(s.conns) && now.Sub(s.conns[old].rests) >= rest {
		old++
	}
	gone := append([]*upstreamConn(nil), s.conns[:old]...)
	s.conns = append(s.conns[:0], s.conns[old:]...)
	clear(s.conns[len(s.conns):cap(s.conns)])
	if s.armed = len(s.conns) > 0 && !s.closed; s.armed {
		s.reaper.Reset(rest - now.Sub(s.conns[0].rests))
	}
	s.mu.Unlock()
	for _, u := range gone {
		u.Close()
	}
}

// close closes all, and those that are put aside later at once.
func (s *idleConns) close() {
	s.mu.Lock()
	all := s.conns
	s.conns, s.closed = nil, true
	if s.reaper != nil {
		s.reaper.Stop()
	}
	s.mu.Unlock()
	for _, u := range all {
		u.Close()
	}
}

// isIndirect notes that connections to a member are none of TCP's own.
func (p *pool) isIndirect(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !m.indirect && !m.gone.Load() {
		m.indirect = true
		p.indirect.Add(1)
	}
}
