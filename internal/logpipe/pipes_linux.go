package logpipe

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// growPipe makes room for what a container writes while nobody reads. All pipes
// of a plain user share an allowance (fs.pipe-user-pages-soft, 64 MiB by
// default) beyond which his new pipes get hardly any room, so only root takes
// the most that is allowed by default.
func growPipe(fd int) {
	size := 256 << 10
	if os.Geteuid() == 0 {
		size = 1 << 20
	}
	// A refusal leaves the pipe as it is, which is good enough.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size)
}

// Reader takes data out of pipes without ever holding the only copy: it
// looks at it through tee(2), lets it be written down, and takes it out then.
type Reader struct {
	buffers sync.Pool

	mu   sync.Mutex
	r, w int // a pipe of our own that tee copies to
	// plain is set where the system does not do tee, as some sandboxes.
	plain bool
}

// NewReader returns a reader for any number of pipes.
func NewReader() (*Reader, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	p := &Reader{r: fds[0], w: fds[1]}
	p.buffers.New = func() any { return new([chunk]byte) }
	return p, nil
}

// Close frees the reader, which no pump may use any more.
func (p *Reader) Close() error {
	return errors.Join(unix.Close(p.r), unix.Close(p.w))
}

// move waits for data in a pipe, or with wait false looks for some, gives it
// to write, and then removes it from the pipe.
func (p *Reader) move(conn syscall.RawConn, wait bool, write func([]byte)) (int, error) {
	var buf *[chunk]byte
	var n int
	var taken bool
	var perr error
	err := conn.Read(func(fd uintptr) bool {
		if buf == nil {
			buf = p.buffers.Get().(*[chunk]byte)
		}
		n, taken, perr = p.peek(int(fd), buf[:])
		if errors.Is(perr, unix.EAGAIN) {
			n, perr = 0, nil
			if wait {
				p.buffers.Put(buf)
				buf = nil
			}
			return !wait
		}
		return true
	})
	if buf == nil {
		return 0, errors.Join(err, perr)
	}
	defer p.buffers.Put(buf)
	if err = errors.Join(err, perr); err != nil || n == 0 {
		return 0, err
	}
	write(buf[:n])
	if taken {
		return n, nil
	}
	err = conn.Control(func(fd uintptr) { perr = discard(int(fd), buf[:n]) })
	return n, errors.Join(err, perr)
}

// peek copies what is in a pipe; taken says that it is no longer there.
func (p *Reader) peek(fd int, buf []byte) (n int, taken bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.plain {
		n, err = retry(func() (int, error) {
			m, err := unix.Tee(fd, p.w, len(buf), unix.SPLICE_F_NONBLOCK)
			return int(m), err
		})
		switch {
		case err == nil:
			return n, false, readFull(p.r, buf[:n])
		case errors.Is(err, unix.EAGAIN):
			return 0, false, err
		}
		p.plain = true
	}
	n, err = retry(func() (int, error) { return unix.Read(fd, buf) })
	return max(n, 0), true, err
}

// discard takes bytes out of a pipe that are known to be there.
func discard(fd int, buf []byte) error {
	err := readFull(fd, buf)
	if errors.Is(err, unix.EAGAIN) {
		return nil // the container has read its own output
	}
	return err
}

func readFull(fd int, buf []byte) error {
	for len(buf) > 0 {
		n, err := retry(func() (int, error) { return unix.Read(fd, buf) })
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		buf = buf[n:]
	}
	return nil
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
