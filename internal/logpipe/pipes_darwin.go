package logpipe

import (
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// growPipe does nothing: macOS grows pipes by itself.
func growPipe(int) {}

// Reader takes data out of pipes.
type Reader struct{ buffers sync.Pool }

// NewReader returns a reader for any number of pipes.
func NewReader() (*Reader, error) {
	return &Reader{buffers: sync.Pool{New: func() any { return new([chunk]byte) }}}, nil
}

// Close does nothing.
func (p *Reader) Close() error { return nil }

// move waits for data in a pipe, or with wait false looks for some, and gives
// it to write.
func (p *Reader) move(conn syscall.RawConn, wait bool, write func([]byte)) (int, error) {
	buf := p.buffers.Get().(*[chunk]byte)
	defer p.buffers.Put(buf)
	var n int
	var perr error
	err := conn.Read(func(fd uintptr) bool {
		for {
			n, perr = unix.Read(int(fd), buf[:])
			if !errors.Is(perr, unix.EINTR) {
				break
			}
		}
		if errors.Is(perr, unix.EAGAIN) {
			n, perr = 0, nil
			return !wait
		}
		return true
	})
	if err = errors.Join(err, perr); err != nil || n <= 0 {
		return 0, err
	}
	write(buf[:n])
	return n, nil
}
