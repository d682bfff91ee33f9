package balancetest

import (
	"net"
	"sync"

	"github.com/budgiehq/budgie/balance"
)

// fakeUDP carries the datagrams of a frontend. Its sessions end with their
// backend or, at once, with the frontend; not of silence.
type fakeUDP struct {
	front *FakeFrontend
	conn  net.PacketConn

	mu       sync.Mutex
	sessions map[string]*fakeSession // by the client's address
	wg       sync.WaitGroup
}

type fakeSession struct {
	backend balance.Backend
	conn    net.Conn
}

func newFakeUDP(f *FakeFrontend) *fakeUDP {
	return &fakeUDP{front: f, conn: f.cfg.PacketConn, sessions: map[string]*fakeSession{}}
}

// serve takes datagrams until the socket is closed.
func (u *fakeUDP) serve() {
	buf := make([]byte, 1<<16)
	for {
		n, client, err := u.conn.ReadFrom(buf)
		if err != nil {
			break
		}
		if s := u.session(client); s != nil {
			if _, err := s.conn.Write(buf[:n]); err != nil {
				u.end(client.String(), s, err)
			}
		}
	}
	u.endWhere(func(balance.Backend) bool { return true })
	u.wg.Wait()
}

// session returns the session of a client, or a new one; nil without a backend.
func (u *fakeUDP) session(client net.Addr) *fakeSession {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.sessions[client.String()]; s != nil {
		return s
	}
	b, ok := u.front.begin()
	if !ok {
		return nil
	}
	c, err := net.Dial("udp", b.Addr)
	if err != nil {
		u.front.end(b, err)
		return nil
	}
	s := &fakeSession{b, c}
	u.sessions[client.String()] = s
	u.wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := c.Read(buf)
			if err != nil {
				u.end(client.String(), s, err)
				return
			}
			_, _ = u.conn.WriteTo(buf[:n], client) // a datagram may be lost
		}
	})
	return s
}

// end ends a session, once.
func (u *fakeUDP) end(client string, s *fakeSession, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sessions[client] != s {
		return
	}
	delete(u.sessions, client)
	s.conn.Close()
	u.front.end(s.backend, err)
}

// endWhere ends the sessions of the backends for which gone is true.
func (u *fakeUDP) endWhere(gone func(balance.Backend) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for client, s := range u.sessions {
		if gone(s.backend) {
			delete(u.sessions, client)
			s.conn.Close()
			u.front.end(s.backend, nil)
		}
	}
}
