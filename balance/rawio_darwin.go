package balance

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// canPeek says whether newRawIO works.
const canPeek = true

// rawIO is a TCP connection of which can be told whether something has come.
type rawIO struct {
	net.Conn
	raw syscall.RawConn
}

// newRawIO returns that of a connection, nil where it is none of TCP's own.
func newRawIO(c net.Conn) *rawIO {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return &rawIO{c, raw}
}

// quiet reports whether the connection, on which nothing is expected, is open and
// nothing has come.
func (r *rawIO) quiet() (is bool) {
	err := r.raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		is = err == unix.EAGAIN
	})
	return err == nil && is
}

// ready reads what has come, and returns how much that was. It does not wait. After
// an error the next Read finds the end.
func (r *rawIO) ready(p []byte) (n int) {
	_ = r.raw.Control(func(fd uintptr) { n, _, _ = unix.Recvfrom(int(fd), p, unix.MSG_DONTWAIT) })
	return max(n, 0)
}

// pass reads once and writes that to another connection. A failed write is told as a
// writeError, with what was written.
func (r *rawIO) pass(to *rawIO, from *pieces) (n int, err error) {
	b := from.get()
	defer from.put(b)
	if n, err = r.Read(b[:]); n > 0 {
		n, err = ofWriting(to.Write(b[:n]))
	}
	return n, err
}
