//go:build linux || darwin

package balance

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// canPeek says whether newPeeker works.
const canPeek = true

// peeker looks whether a connection on which nothing is expected has something to
// say.
type peeker struct {
	raw  syscall.RawConn
	look func(fd uintptr)
	idle bool
	buf  [1]byte
}

// newPeeker returns that of a connection, nil where the system has no hand in it.
func newPeeker(c net.Conn) *peeker {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	p := &peeker{raw: raw}
	p.look = func(fd uintptr) {
		p.idle = recvPeek(fd, p.buf[:]) == unix.EAGAIN
	}
	return p
}

// quiet reports whether the connection is open and nothing has come.
func (p *peeker) quiet() bool {
	// Not by Read, which minds deadlines.
	p.idle = false
	return p.raw.Control(p.look) == nil && p.idle
}
