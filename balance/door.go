package balance

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// How long a draining door goes on taking what the kernel has already
// accepted: until nothing came for backlogQuiet, and no longer than backlogMax.
const (
	backlogQuiet = 5 * time.Millisecond
	backlogMax   = 100 * time.Millisecond
)

// door is a frontend's listener. It knows every connection that it let in until
// that ended, and can be closed without turning away those that were accepted:
// closing a socket resets what waits in its backlog.
type door struct {
	net.Listener
	limits   limits
	conns    *connSet
	draining atomic.Bool
	since    time.Time     // when draining began, set before draining
	closed   chan struct{} // the accepting loop has ended
	once     sync.Once
}

func newDoor(ln net.Listener, l limits) *door {
	return &door{Listener: ln, limits: l, conns: newConnSet(), closed: make(chan struct{})}
}

// Accept returns the next connection, known and of type *clientConn. After
// drain it returns net.ErrClosed when the backlog is empty.
func (d *door) Accept() (net.Conn, error) {
	for {
		draining := d.draining.Load()
		if draining {
			d.extend()
		}
		c, err := d.Listener.Accept()
		if err == nil {
			return d.conns.addClient(c, d.limits.stall), nil
		}
		if !d.draining.Load() {
			return nil, err
		}
		if !draining {
			continue // woken by drain: now look at the backlog
		}
		d.shut()
		return nil, net.ErrClosed
	}
}

// extend lets a draining door wait a little for the next connection.
func (d *door) extend() {
	dl, ok := d.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok {
		d.shut()
		return
	}
	limit := d.since.Add(backlogMax)
	if t := time.Now().Add(backlogQuiet); t.Before(limit) {
		limit = t
	}
	if err := dl.SetDeadline(limit); err != nil {
		d.shut()
	}
}

// drain begins to close the door. It is called once.
func (d *door) drain() {
	d.since = time.Now()
	d.draining.Store(true)
	d.extend()
}

// shut closes the listener at once.
func (d *door) shut() {
	d.once.Do(func() { d.Listener.Close() })
}

// acceptEnded says that nobody calls Accept any more.
func (d *door) acceptEnded() {
	d.shut()
	close(d.closed)
}

// closeQuiet closes the connections that have been quiet long enough, and
// reports whether none is left and none can come.
func (d *door) closeQuiet() bool {
	select {
	case <-d.closed:
	default:
		return false
	}
	d.conns.each(func(c net.Conn) {
		if cc, ok := c.(*clientConn); ok {
			cc.closeIfQuiet(d.since, d.limits)
		}
	})
	return d.conns.len() == 0
}

// isTimeout reports whether err is the end of a deadline.
func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
