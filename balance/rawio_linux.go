package balance

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canPeek says whether newRawIO works.
const canPeek = true

// rawIO reads and writes a TCP connection by system calls of which Go's scheduler is
// not told. They do not block, and take as long as the copying does; but the runtime
// watches those that it knows of from a thread that wakes every 20 µs for that, and
// hands their processors over to other threads and back, which costs more than the
// calls. One goroutine reads and one writes at a time.
type rawIO struct {
	conn             syscall.RawConn
	reading, writing func(fd uintptr) bool
	looking, taking  func(fd uintptr)
	in, out          []byte
	inN, outN        int
	inErr, outErr    syscall.Errno
	idle             bool
	oneByte          [1]byte
	lent             *pieces // while pass reads, and what it got of them
	piece            *[pieceMax]byte
}

// newRawIO returns that of a connection, nil where it is none of TCP's own.
func newRawIO(c net.Conn) *rawIO {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	conn, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	r := &rawIO{conn: conn}
	r.reading, r.writing, r.looking, r.taking = r.readNow, r.writeNow, r.look, r.take
	return r
}

// Read is as that of the connection. p has at least one byte.
func (r *rawIO) Read(p []byte) (int, error) {
	r.in = p
	err := r.conn.Read(r.reading)
	n, errno := r.inN, r.inErr
	r.in = nil
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// pass reads once and writes that to another connection. While there is nothing to
// read it holds no buffer. A failed write is told as a writeError, with what was written.
func (r *rawIO) pass(to *rawIO, from *pieces) (n int, err error) {
	r.lent = from
	n, err = r.Read(nil)
	r.lent = nil
	if b := r.piece; b != nil {
		r.piece = nil
		if n > 0 {
			n, err = ofWriting(to.Write(b[:n]))
		}
		from.put(b)
	}
	return n, err
}

func (r *rawIO) readNow(fd uintptr) (done bool) {
	for {
		if r.lent != nil && r.piece == nil {
			r.piece = r.lent.get()
			r.in = r.piece[:]
		}
		n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&r.in[0])), uintptr(len(r.in)))
		if errno == unix.EINTR {
			continue
		}
		r.inN, r.inErr = int(n), errno
		if errno == unix.EAGAIN && r.lent != nil {
			r.lent.put(r.piece)
			r.piece, r.in = nil, nil
		}
		return errno != unix.EAGAIN
	}
}

// Write is as that of the connection.
func (r *rawIO) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.out, r.outN = p, 0
	err := r.conn.Write(r.writing)
	n, errno := r.outN, r.outErr
	r.out = nil
	if err == nil && errno != 0 {
		err = os.NewSyscallError("write", errno)
	}
	return n, err
}

func (r *rawIO) writeNow(fd uintptr) (done bool) {
	for {
		p := r.out[r.outN:]
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		r.outErr = 0
		switch errno {
		case 0:
			if r.outN += int(n); r.outN == len(r.out) {
				return true
			}
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			r.outErr = errno
			return true
		}
	}
}

// ready reads what has come, and returns how much that was. It does not wait. After
// an error the next Read finds the end. p has at least one byte.
func (r *rawIO) ready(p []byte) int {
	r.in, r.inN = p, 0
	_ = r.conn.Control(r.taking)
	r.in = nil
	return r.inN
}

func (r *rawIO) take(fd uintptr) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&r.in[0])), uintptr(len(r.in)), unix.MSG_DONTWAIT, 0, 0)
	if errno == 0 {
		r.inN = int(n)
	}
}

// quiet reports whether the connection, on which nothing is expected, is open and
// nothing has come.
func (r *rawIO) quiet() bool {
	r.idle = false
	// Not by Read, which minds deadlines.
	return r.conn.Control(r.looking) == nil && r.idle
}

func (r *rawIO) look(fd uintptr) {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&r.oneByte[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	r.idle = errno == unix.EAGAIN
}
