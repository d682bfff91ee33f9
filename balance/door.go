package balance

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// How long a draining door goes on taking what the kernel has already
// accepted: until nothing came for backlogQuiet. What waits at that moment is
// taken in any case. Where newcomers cannot be held off, they are taken for
// backlogMax at most, and those who still wait then have to be there within
// backlogLast.
const (
	backlogQuiet = 5 * time.Millisecond
	backlogMax   = 100 * time.Millisecond
	backlogLast  = 2 * time.Second
)

// door is a frontend's listener. It knows every connection that it let in until
// that ended, and can be closed without turning away those that were accepted:
// closing a socket resets what waits in its backlog.
type door struct {
	net.Listener
	limits   limits
	tooMany  func(client netip.Addr) // tells of one that the limits turn away
	conns    *connSet
	accepted atomic.Uint64 // connections that were let in
	refused  atomic.Uint64 // and those that the limits turned away
	draining atomic.Bool
	since    time.Time       // when draining began, set before draining
	last     time.Time       // when a draining door last let somebody in; Accept's own
	closed   chan struct{}   // the accepting loop has ended
	hold     <-chan struct{} // closed when it may be opened, nil for at once
	held     atomic.Bool     // it was not opened so far
	leaving  chan struct{}   // closed when draining is set

	mu     sync.Mutex
	isShut bool
	letGo  func() // ends what holds newcomers off, nil if nothing does
}

func newDoor(ln net.Listener, hold <-chan struct{}, l limits, tooMany func(netip.Addr)) *door {
	d := &door{
		Listener: ln, limits: l, tooMany: tooMany, conns: newConnSet(), closed: make(chan struct{}), hold: hold, leaving: make(chan struct{}),
	}
	d.held.Store(hold != nil)
	return d
}

// opened waits until connections may be taken, and reports false where that is not to
// be.
func (d *door) opened() bool {
	if !d.held.Load() {
		return true
	}
	select {
	case <-d.hold:
		d.held.Store(false)
		return true
	case <-d.leaving:
		return false
	}
}

// Accept returns the next connection, known and of type *clientConn. After
// drain it returns net.ErrClosed when the backlog is empty. One goroutine calls
// it.
func (d *door) Accept() (net.Conn, error) {
	if !d.opened() {
		d.shut() // what waits is another process's
		return nil, net.ErrClosed
	}
	for {
		draining := d.draining.Load()
		if draining && !d.extend() {
			d.shut()
			return nil, net.ErrClosed
		}
		began := time.Now()
		c, err := d.Listener.Accept()
		switch {
		case err == nil:
			d.last = time.Now()
			addr := clientAddr(c)
			if d.conns.full(addr, d.limits.clients) {
				d.refused.Add(1)
				d.tooMany(addr)
				abortConn(c)
				continue
			}
			d.accepted.Add(1)
			return d.conns.addClient(c, addr, d.limits.stall), nil
		case !d.draining.Load():
			return nil, err
		case !draining:
			// Woken by drain: now look at the backlog.
		case errors.Is(err, net.ErrClosed):
			return nil, net.ErrClosed
		case !isTimeout(err):
			return nil, err // such as too many open files, which may pass
		case d.emptied(time.Since(began)):
			d.shut()
			return nil, net.ErrClosed
		}
	}
}

// extend sets how long a draining door waits for the next connection, and
// reports false where that is not possible, or is enough.
func (d *door) extend() bool {
	dl, ok := d.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return false
	}
	now := time.Now()
	until, taken := now.Add(backlogQuiet), now.Sub(d.since)
	switch waiting, known := backlogged(d.Listener); {
	case taken > backlogLast:
		return false
	case known && waiting:
		// Accept does not look at the backlog when the deadline has passed
		// before it begins, which it does on a busy machine: a generous one.
		until = now.Add(backlogLast)
	case taken > backlogMax:
		return false // the moment to go, where newcomers come on and on
	}
	return dl.SetDeadline(until) == nil
}

// emptied reports whether the end of a deadline means that nobody waits. It may
// as well have passed before Accept looked.
func (d *door) emptied(waited time.Duration) bool {
	waiting, known := backlogged(d.Listener)
	if !known {
		// Whoever has waited a while has looked before.
		return waited >= backlogQuiet/2
	}
	now := time.Now()
	// Handshakes under way get the whole rest, unless newcomers keep coming.
	rested := now.Sub(d.last) >= backlogQuiet && now.Sub(d.since) >= backlogQuiet
	return !waiting && (rested || now.Sub(d.since) > backlogMax)
}

// drain begins to close the door. It is called once.
func (d *door) drain() {
	d.since = time.Now()
	d.mu.Lock()
	if !d.isShut && !d.held.Load() {
		d.letGo = holdOff(d.Listener)
	}
	d.mu.Unlock()
	d.draining.Store(true)
	close(d.leaving)
	dl, ok := d.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok || dl.SetDeadline(d.since) != nil {
		d.shut()
	}
}

// leave closes the door at once, and leaves what waits to another process. It is
// called once, in place of drain.
func (d *door) leave() {
	d.since = time.Now()
	d.draining.Store(true)
	close(d.leaving)
	d.shut()
	<-d.closed
}

// shut closes the listener at once.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isShut {
		return
	}
	d.isShut = true
	d.Listener.Close()
	if d.letGo != nil {
		d.letGo()
	}
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
