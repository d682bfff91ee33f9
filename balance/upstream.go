package balance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// newUpstream returns the pool of HTTP connections of a frontend to its
// backends. Dialling is what the frontend does in TCP mode, too.
func newUpstream(f *frontend) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			c, err := f.dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			u := &upstreamConn{Conn: c, set: f.dials, stall: f.limits.stall}
			f.dials.add(u)
			return u, nil
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    1024,
		IdleConnTimeout:        f.limits.upstreamIdle,
		ResponseHeaderTimeout:  f.limits.response,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: f.limits.maxRespHeader,
		Protocols:              http1Only(),
	}
}

func http1Only() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// dialError says that no connection to a backend came about.
type dialError struct {
	err error
	// ours: this machine ran out of something; the backend is not to blame.
	ours bool
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// connector returns what connects to the backends of a frontend.
func connector(cfg Config) func(context.Context, string) (net.Conn, error) {
	if cfg.Dial != nil {
		return cfg.Dial
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// dial connects to a backend. It ends with ctx, the frontend or the time limit.
func (f *frontend) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, f.limits.dial)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()
	c, err := f.connect(ctx, addr)
	if err != nil {
		return nil, &dialError{err: err, ours: exhausted(err)}
	}
	return c, nil
}

// exhausted reports whether err is this machine's lack of files, ports or memory.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM)
}

var errSealed = errors.New("the request was given up")

// upstreamConn is a connection to a backend that knows exactly whether bytes of
// a request may have left this machine. http.Transport knows it too, but does
// not tell.
type upstreamConn struct {
	net.Conn
	set      *connSet
	stall    time.Duration
	sent     atomic.Int64 // bytes given to the kernel
	received atomic.Int64
	writing  atomic.Int64 // writes under way
	sealed   atomic.Bool
	head     answerHead // of the answer under way

	// What keeps an answer that nobody asked for from being taken for one to the next
	// request, see settle: whether Read waits, whom to tell that it does or never will
	// again, and whether the connection has been taken and nothing sent on it since.
	reading atomic.Bool
	closed  atomic.Bool
	settled atomic.Pointer[chan struct{}]
	unasked atomic.Bool

	// Of the fast path: deadlines that are set, when it was put aside, and the
	// way to read and write it, of which direct is nil where that is no TCP.
	readBy, writeBy time.Time
	rests           time.Time
	io              io.ReadWriter
	direct          *rawIO
}

// NetConn returns what it is on.
func (c *upstreamConn) NetConn() net.Conn { return c.Conn }

// seal lets no further byte out, closes the connection, and returns how many
// went out, or may have in a write under way. A write either began before seal,
// and counts, or sees it.
func (c *upstreamConn) seal() int64 {
	c.sealed.Store(true)
	sent := c.sent.Load() + c.writing.Load()
	c.Close()
	return sent
}

// errUnasked: a backend said more than it was asked for.
var errUnasked = errors.New("the backend sent something on a connection on which nothing was under way")

// settle is called when http.Transport has taken a connection that was used before, and
// before it sends anything on it. What a backend sent beyond its last answer may be read
// already, and http.Transport finds that out in a goroutine of its own: were the next
// request faster, that would be its answer (RFC 9112 section 9.2). So this waits until
// that goroutine asks for more, which it does where it has nothing left, or has closed the
// connection; what it gets then before anything is sent is an error.
func (c *upstreamConn) settle() {
	c.unasked.Store(true)
	if c.reading.Load() {
		return // as nearly always
	}
	settled := make(chan struct{})
	c.settled.Store(&settled)
	if !c.reading.Load() && !c.closed.Load() {
		<-settled
	}
}

// tellSettled tells who waits in settle that it need not any more.
func (c *upstreamConn) tellSettled() {
	if settled := c.settled.Swap(nil); settled != nil {
		close(*settled)
	}
}

func (c *upstreamConn) Write(p []byte) (int, error) {
	c.unasked.Store(false)
	c.writing.Add(1)
	defer c.writing.Add(-1)
	if c.sealed.Load() {
		return 0, errSealed
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		// The backend closed its receiving end, perhaps after an answer to the
		// beginning of the request (413, 401), which http.Transport would throw
		// away on this error. The reading end tells what is the matter: it
		// yields the answer or an error of its own.
		return len(p), nil
	}
	return n, err
}

func (c *upstreamConn) Read(p []byte) (int, error) {
	c.reading.Store(true)
	c.tellSettled()
	n, err := c.Conn.Read(p)
	c.reading.Store(false)
	if n > 0 && c.unasked.Load() {
		return 0, errUnasked
	}
	c.head.see(p[:n])
	c.received.Add(int64(n))
	return n, err
}

// CloseWrite ends the sending direction of a switched protocol.
func (c *upstreamConn) CloseWrite() error {
	cw, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("connection %T cannot be closed for writing", c.Conn)
	}
	return cw.CloseWrite()
}

func (c *upstreamConn) Close() error {
	c.set.remove(c)
	c.closed.Store(true)
	c.tellSettled()
	return c.Conn.Close()
}
