package balance

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What waits to be sent by a tunnel, at most, in datagrams and bytes. What comes beyond
// is lost, as where a socket has no room.
const (
	tunnelDatagrams = 64
	tunnelBytes     = 256 << 10
)

// tunnelConn is the udpConn of a backend that is reached by Config.Dial. To connect, and
// to write, may take its time there, which is that of the session alone.
type tunnelConn struct {
	f      *udpFrontend
	addr   string
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	queue  chan []byte
	queued atomic.Int64 // bytes

	mu       sync.Mutex
	conn     net.Conn  // nil until it is there
	deadline time.Time // for conn
	lost     error     // why nothing can be sent any more
}

// newTunnelConn returns a tunnel to an address. Its first receive connects.
func (f *udpFrontend) newTunnelConn(addr string) *tunnelConn {
	c := &tunnelConn{f: f, addr: addr, queue: make(chan []byte, tunnelDatagrams)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// send has a datagram sent when there is a connection, and those before have gone.
func (c *tunnelConn) send(b []byte) error {
	n := int64(len(b))
	if c.queued.Add(n) <= tunnelBytes {
		select {
		case c.queue <- append([]byte(nil), b...):
			return nil
		default:
		}
	}
	c.queued.Add(-n)
	return syscall.ENOBUFS
}

func (c *tunnelConn) receive(deliver func([]byte)) error {
	conn, err := c.connected()
	if err != nil {
		return c.explain(final(err)) // no time is over but that of the dial
	}
	buf := c.f.buffers.Get().(*[maxDatagram]byte)
	defer c.f.buffers.Put(buf)
	n, err := conn.Read(buf[:])
	if err != nil {
		return c.explain(err)
	}
	deliver(buf[:n])
	return nil
}

// final returns an error that says what err says, and that is neither a timeout, after
// which a session would go on, nor its own end.
func final(err error) error { return errors.New(err.Error()) }

// explain returns why a connection failed.
func (c *tunnelConn) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ctx.Err() != nil:
		return net.ErrClosed
	case c.lost != nil:
		return c.lost
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	}
	return final(err) // one that somebody else closed, too
}

// connected returns the connection, which it makes the first time. One goroutine
// receives.
func (c *tunnelConn) connected() (net.Conn, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.f.limits.dial)
	defer cancel()
	conn, err := c.f.tunnel(ctx, c.addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	c.arm()
	c.f.wg.Go(func() { c.write(conn) }) // the session, which is counted too, still runs
	return conn, nil
}

// write sends what is queued until the tunnel is closed, or breaks.
func (c *tunnelConn) write(conn net.Conn) {
	defer conn.Close()
	for {
		select {
		case <-c.ctx.Done():
			return
		case b := <-c.queue:
			_, err := conn.Write(b)
			c.queued.Add(-int64(len(b)))
			if err != nil && !undelivered(err) {
				c.mu.Lock()
				c.lost = final(err)
				c.arm()
				c.mu.Unlock()
				<-c.ctx.Done() // the session hears of it, and closes the tunnel
				return
			}
		}
	}
}

// arm sets the deadlines of the connection. The caller holds the lock.
func (c *tunnelConn) arm() {
	switch {
	case c.conn == nil:
	case c.ctx.Err() != nil || c.lost != nil:
		_ = c.conn.SetDeadline(time.Unix(1, 0)) // who waits is to look around
	default:
		_ = c.conn.SetReadDeadline(c.deadline) // a connection that has failed says so when it is read
	}
}

// SetReadDeadline is that of the connection, once there is one.
func (c *tunnelConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	c.arm()
	return nil
}

// Close ends the tunnel, and does not wait: the connection has things to say before it
// closes, for which write takes the time.
func (c *tunnelConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
	c.arm()
	return nil
}
