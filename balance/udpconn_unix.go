//go:build unix

package balance

import (
	"errors"
	"net"
	goruntime "runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// newUDPConn returns c as a udpConn.
func newUDPConn(c net.Conn, buffers *sync.Pool) udpConn {
	u, ok := c.(*net.UDPConn)
	if !ok {
		return &plainConn{c, buffers}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return &plainConn{c, buffers}
	}
	raiseDatagramSize(u)
	r := &rawConn{UDPConn: u, raw: raw, buffers: buffers}
	r.reader, r.writer = r.read, r.write
	return r
}

// raiseDatagramSize makes macOS send datagrams of any size, which it limits to
// 9216 bytes by the size of the buffer. Elsewhere buffers are large enough.
func raiseDatagramSize(c *net.UDPConn) {
	if goruntime.GOOS == "darwin" {
		_ = c.SetWriteBuffer(maxDatagram)
	}
}

// rawConn is a socket of the system. It takes a buffer only when a datagram is
// there: thousands of sessions that wait share a few.
type rawConn struct {
	*net.UDPConn
	raw            syscall.RawConn
	buffers        *sync.Pool
	reader, writer func(fd uintptr) bool // read and write, made once

	in    *[maxDatagram]byte // what read got
	inLen int
	inErr error

	out    []byte // what write is to send
	outErr error
}

func (c *rawConn) receive(deliver func([]byte)) error {
	if err := c.raw.Read(c.reader); err != nil {
		return err
	}
	if c.inErr != nil {
		return c.inErr
	}
	deliver(c.in[:c.inLen])
	c.buffers.Put(c.in)
	c.in = nil
	return nil
}

// read reads a datagram, and reports false where none is there yet.
func (c *rawConn) read(fd uintptr) bool {
	c.in = c.buffers.Get().(*[maxDatagram]byte)
	for {
		c.inLen, c.inErr = unix.Read(int(fd), c.in[:])
		if !errors.Is(c.inErr, unix.EINTR) {
			break
		}
	}
	if c.inErr != nil {
		c.buffers.Put(c.in)
		c.in = nil
	}
	return !errors.Is(c.inErr, unix.EAGAIN)
}

func (c *rawConn) send(b []byte) error {
	c.out = b
	err := c.raw.Write(c.writer)
	c.out = nil
	if err != nil {
		return err
	}
	return c.outErr
}

// write sends a datagram, or does not. It never waits.
func (c *rawConn) write(fd uintptr) bool {
	for {
		_, c.outErr = unix.Write(int(fd), c.out)
		if !errors.Is(c.outErr, unix.EINTR) {
			return true
		}
	}
}
