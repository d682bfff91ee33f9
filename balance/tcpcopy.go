package balance

import (
	"io"
	"net"
	"sync"
)

// The ways of copying in TCP mode. What comes in small pieces is read and written,
// which costs less than to move it through a pipe; a stream is moved by the kernel
// alone (splice(2)).
const (
	pieceMax = 64 << 10 // that is read at once
	// streamAfter is how many of these in a row are taken for a stream, and
	// streamFor how much of it is moved before that is looked at again.
	streamAfter = 4
	streamFor   = 16 << 20
)

// pieces lends buffers of pieceMax bytes. A connection that is silent holds none.
type pieces struct{ pool sync.Pool }

func (p *pieces) get() *[pieceMax]byte {
	if b, ok := p.pool.Get().(*[pieceMax]byte); ok {
		return b
	}
	return new([pieceMax]byte)
}

func (p *pieces) put(b *[pieceMax]byte) { p.pool.Put(b) }

// writeError is an error of writing, where one of reading would mean something else.
type writeError struct{ error }

// Unwrap returns the error itself.
func (e writeError) Unwrap() error { return e.error }

// ofWriting says of the error of a write that it is of that.
func ofWriting(n int, err error) (int, error) {
	if err != nil {
		err = writeError{err}
	}
	return n, err
}

// writer writes to a connection, and says of errors that they are of that.
type writer struct{ net.Conn }

func (w writer) Write(p []byte) (int, error) { return ofWriting(w.Conn.Write(p)) }

// copy copies from src to dst until the end of src's stream, as io.Copy does.
func (p *pipe) copy(dst, src net.Conn) (copied int64, err error) {
	in, out := p.ofClient, p.ofBackend
	if src == p.backend {
		in, out = out, in
	}
	if in == nil || out == nil {
		return io.Copy(writer{dst}, src)
	}
	full := 0
	for {
		if full >= streamAfter {
			n, err := io.Copy(dst, &io.LimitedReader{R: src, N: streamFor})
			copied += n
			if err != nil || n < streamFor {
				return copied, err
			}
			full = 0
		}
		n, err := in.pass(out, p.pieces)
		copied += int64(n)
		switch {
		case err == io.EOF:
			return copied, nil
		case err != nil:
			return copied, err
		case n == pieceMax:
			full++
		default:
			full = 0
		}
	}
}
