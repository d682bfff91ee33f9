package balance

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"sync"
)

// h1Listener is a listener whose connections are those that http.Server reads.
type h1Listener struct {
	net.Listener
	f        *frontend
	tls      *tls.Config // nil without TLS
	errorLog *log.Logger
}

// Accept implements net.Listener. http.Server would give up for good on most errors.
func (l *h1Listener) Accept() (net.Conn, error) {
	c, err := l.f.accept(l.Listener)
	if err != nil {
		return nil, err
	}
	client := clientConnUnder(c)
	h := &h1Conn{Conn: c, client: client, errorLog: l.errorLog}
	if l.tls != nil {
		h.tls = tls.Server(c, l.tls)
		h.Conn = h.tls
	}
	client.h1 = h
	return h, nil
}

// h1Conn is a client's connection as long as it speaks HTTP/1.1, on top of TLS if
// there is any, which is hidden from http.Server: only here the bytes of requests can
// be looked at before http.Server does.
type h1Conn struct {
	net.Conn // client, or TLS on it
	client   *clientConn
	tls      *tls.Conn // nil without
	errorLog *log.Logger
	shaken   bool // the handshake is over; Read's own

	mu       sync.Mutex
	framing  framing
	answered int // requests
}

// Read returns what a client sent, unless that is to be held back.
func (c *h1Conn) Read(p []byte) (int, error) {
	if err := c.handshake(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := c.leftover(p)
		if n == 0 && err == nil {
			if n, err = c.Conn.Read(p); n > 0 {
				n = c.filter(p[:n])
			}
		}
		if n > 0 && !c.busy() {
			return 0, net.ErrClosed // by a drain
		}
		if n > 0 || err != nil {
			return n, err
		}
		c.rest()
	}
}

// busy marks the connection as having brought something of a request, be it that TLS
// has read that before, and reports false if it had been given up by then. Over HTTP/2
// its server does.
func (c *h1Conn) busy() bool {
	return c.client.h2.Load() != nil || c.client.state.Load() == connBusy || c.client.busy()
}

// rest marks the connection as waiting for its next request, unless some of that is
// here already: where requests come together, http.Server has read the next one before
// it has answered the last.
func (c *h1Conn) rest() {
	c.mu.Lock()
	f := &c.framing
	waits := f.state == framingBetween && f.heads <= c.answered && len(f.held) == 0
	c.mu.Unlock()
	if waits {
		c.client.idle()
	}
}

// idle says that a request was answered, and that http.Server wants the next.
func (c *h1Conn) idle() {
	c.mu.Lock()
	c.answered++
	c.mu.Unlock()
	c.rest()
}

// filter looks at what has just been read, and returns how much of it is to be
// passed on at once.
func (c *h1Conn) filter(p []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.framing
	if len(f.held) > 0 && f.state != framingUndecided {
		// It was decided while this was waited for: what is held comes first.
		f.held = append(f.held, p...)
		return 0
	}
	return f.filter(p)
}

// leftover returns what was held back, if that is over.
func (c *h1Conn) leftover(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.framing
	if f.err != nil {
		return 0, f.err
	}
	for len(f.held) > 0 && f.state != framingUndecided {
		n := copy(p, f.held)
		rest := f.held[n:]
		f.held = nil // what is held back again, of p, comes before the rest
		n = f.filter(p[:n])
		f.held = append(f.held, rest...)
		if n > 0 {
			return n, nil
		}
	}
	return 0, f.err
}

// decide says that a request was answered, or the protocol switched.
func (c *h1Conn) decide(switched bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.framing.decide(switched)
}

// handshake is that of TLS, before the first byte, within the time for a header.
func (c *h1Conn) handshake() error {
	if c.tls == nil || c.shaken {
		return nil
	}
	err := c.tls.HandshakeContext(context.Background())
	if err == nil {
		c.shaken = true
		c.framing.h2 = c.tls.ConnectionState().NegotiatedProtocol == alpnH2
		c.client.greeted()
		return nil
	}
	text := err.Error()
	if re, ok := errors.AsType[tls.RecordHeaderError](err); ok && re.Conn != nil && looksLikeHTTP(re.RecordHeader) {
		io.WriteString(re.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		text = "client sent an HTTP request to an HTTPS server"
	}
	c.errorLog.Printf("TLS handshake error from %s: %s", c.RemoteAddr(), text)
	return io.EOF // http.Server has nothing to add
}

// looksLikeHTTP reports whether the beginning of a record of TLS is one of HTTP/1.1.
func looksLikeHTTP(header [5]byte) bool {
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "DELET", "PATCH", "OPTIO"} {
		if strings.HasPrefix(string(header[:]), method) {
			return true
		}
	}
	return false
}

// CloseWrite ends the sending direction; http.Server looks for it.
func (c *h1Conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Conn.Close()
}
