package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// DatagramDialer is a [Node] that passes datagrams on to its containers' UDP ports. A
// Node that is none passes on none.
type DatagramDialer interface {
	// DialDatagrams returns a socket that is connected to a UDP port of a container:
	// to the container itself, not to where the port is published. Each Read and each
	// Write is one datagram, as those of a *net.UDPConn are.
	//
	// Errors are as those of [PortDialer].
	DialDatagrams(ctx context.Context, id string, port int) (net.Conn, error)
}

// errNoDatagrams is what a Node says that is no DatagramDialer.
var errNoDatagrams = fmt.Errorf("%w: this node passes on no datagrams", ErrRefused)

// maxDatagram is the length of the longest datagram, in bytes: the length field has 16
// bits, as that of UDP (RFC 768).
const maxDatagram = 1<<16 - 1

// openDatagrams opens a socket to a port, and returns what passes on its datagrams.
func (s *Server) openDatagrams(ctx context.Context, id, subject string) (func(context.Context, *tls.Conn) error, error) {
	dialer, ok := s.node.(DatagramDialer)
	if !ok {
		return nil, errNoDatagrams
	}
	return openTo(ctx, id, subject, dialer.DialDatagrams, func(from *tls.Conn, to net.Conn) error {
		return s.passDatagrams(newDatagramConn(from), to)
	})
}

// passDatagrams passes datagrams on in both directions until one of the two fails, or
// nothing has come from either side for a while, and closes both. While the other node
// does not take answers, the system drops what the container sends.
func (s *Server) passDatagrams(from *datagramConn, to net.Conn) error {
	var last atomic.Int64 // when a datagram came, since begun
	begun := time.Now()
	direction := func(dst, src net.Conn) error {
		buf := make([]byte, maxDatagram)
		for {
			heard := begun.Add(time.Duration(last.Load()))
			if err := src.SetReadDeadline(heard.Add(s.limits.mute)); err != nil {
				return err
			}
			n, err := src.Read(buf)
			if errors.Is(err, syscall.EMSGSIZE) {
				continue
			}
			if errors.Is(err, os.ErrDeadlineExceeded) && time.Since(begun.Add(time.Duration(last.Load()))) < s.limits.mute {
				continue // the other direction is in use
			}
			if err != nil {
				return err
			}
			last.Store(int64(time.Since(begun)))
			if err := dst.SetWriteDeadline(time.Now().Add(s.limits.write)); err != nil {
				return err
			}
			if _, err := dst.Write(buf[:n]); err != nil && !isLost(err) {
				return err
			}
		}
	}
	end := func() {
		_ = from.NetConn().Close()
		_ = to.Close()
	}
	var wg sync.WaitGroup
	var answers error
	wg.Go(func() {
		answers = direction(from, to)
		end()
	})
	err := direction(to, from)
	end()
	wg.Wait()
	if errors.Is(err, io.EOF) {
		return nil // the other node has no more use for it
	}
	return errors.Join(err, answers)
}

// isLost reports whether err says that a datagram did not go out because of its size or
// of a lack of room: the next one may.
func isLost(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN)
}

// DialDatagrams returns a connection to a UDP port of one of the node's containers, by
// its number in the container, of which each Read and each Write is one datagram of up
// to 65,535 bytes; a Read into fewer bytes loses the rest. Datagrams are encrypted, come
// in their order and are lost only with the connection, or where the container or the
// network beyond the node loses them. A Write may block. Reads may be concurrent with
// writes, but not with each other. The connection ends when the token is changed, but
// not with the Client, and after five minutes without a datagram.
//
// Errors are those of [Client.DialPort].
func (c *Client) DialDatagrams(ctx context.Context, id string, port int) (net.Conn, error) {
	conn, err := c.dialStream(ctx, datagramStream, id, port)
	if err != nil {
		return nil, err
	}
	return newDatagramConn(conn), nil
}

// datagramConn has datagrams pass by a stream: the length of each (2 bytes, big-endian)
// is before it.
type datagramConn struct {
	*tls.Conn
	r *bufio.Reader
	// in is what has come of the next one, with its length.
	in []byte

	writing sync.Mutex
	out     []byte
}

// keptBuffer is how large a buffer may be that waits for the next datagram.
const keptBuffer = 4 << 10

func newDatagramConn(c *tls.Conn) *datagramConn {
	return &datagramConn{Conn: c, r: bufio.NewReaderSize(c, keptBuffer)}
}

// Read returns the next datagram. After a timeout it can be called again.
func (c *datagramConn) Read(b []byte) (int, error) {
	for {
		need := 2
		if len(c.in) >= 2 {
			need += int(binary.BigEndian.Uint16(c.in))
			if len(c.in) == need {
				n := copy(b, c.in[2:])
				if c.in = c.in[:0]; cap(c.in) > keptBuffer {
					c.in = nil
				}
				return n, nil
			}
		}
		have := len(c.in)
		if need > cap(c.in) {
			c.in = append(make([]byte, 0, need), c.in...)
		}
		n, err := c.r.Read(c.in[have:need])
		c.in = c.in[:have+n]
		switch {
		case n > 0:
		case errors.Is(err, io.EOF) && have > 0:
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		}
	}
}

// Write sends a datagram.
func (c *datagramConn) Write(b []byte) (int, error) {
	if len(b) > maxDatagram {
		return 0, fmt.Errorf("a datagram of %d bytes: %w", len(b), syscall.EMSGSIZE)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.out = append(binary.BigEndian.AppendUint16(c.out[:0], uint16(len(b))), b...)
	n, err := c.Conn.Write(c.out)
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	return max(0, n-2), err
}
