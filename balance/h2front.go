package balance

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// The bounds of HTTP/2 connections of clients that are no field of limits. A
// connection is worth many requests, so what one of them may hold is less than
// over HTTP/1.1.
const (
	// What a client may send ahead, of one request and of all of a connection,
	// while backends do not read.
	h2StreamWindow = 128 << 10
	h2ConnWindow   = 4<<20 - 1
	// The header of a request, as RFC 9113 section 6.5.2 counts it.
	h2MaxHeader = 128 << 10
	// How long a client that does not answer pings is taken for gone.
	h2PingTimeout = 15 * time.Second
	// Draining: how long a client has to heed the notice that it is to open no
	// further streams. Those that it opens later are refused.
	h2PartGrace = time.Second
)

// newH2Server returns the server of the connections that turned out to speak
// HTTP/2. It is one of its own, since http.Server knows but one way to close:
// to refuse, at once, what is on its way.
func (h *httpTraffic) newH2Server() *http.Server {
	return &http.Server{
		Handler:                      http.HandlerFunc(h.serveRequest),
		Protocols:                    onlyH2C(), // what TLS there is, is below
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            h.f.limits.header, // of the connection's preface
		IdleTimeout:                  h.f.limits.keepAlive,
		MaxHeaderBytes:               min(h.f.limits.maxHeader, h2MaxHeader),
		ErrorLog:                     h.server.ErrorLog,
		BaseContext:                  h.server.BaseContext,
		ConnContext:                  h.server.ConnContext,
		ConnState:                    h.followState,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          h.f.limits.clients.Streams,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: h2ConnWindow,
			MaxReceiveBufferPerStream:     h2StreamWindow,
			SendPingTimeout:               h.f.limits.stall,
			PingTimeout:                   h2PingTimeout,
		},
	}
}

// isPreface reports whether a request is the beginning of the preface of an
// HTTP/2 connection (RFC 9113 section 3.4), which http.Server takes for a
// request of HTTP/1.1.
func isPreface(r *http.Request) bool {
	return r.Method == "PRI" && r.RequestURI == "*" && r.ProtoMajor == 2 && len(r.Header) == 0 && r.Host == ""
}

const prefaceRequest = "PRI * HTTP/2.0\r\n\r\n"

// speakH2 hands the connection of a preface over to the server of HTTP/2.
func (h *httpTraffic) speakH2(w http.ResponseWriter, r *http.Request) {
	client := clientConnOf(r)
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil || client == nil {
		h.f.log.Error("connection that speaks HTTP/2 cannot be taken over", "client", r.RemoteAddr, "err", err)
		panic(http.ErrAbortHandler)
	}
	rest, _ := buf.Reader.Peek(buf.Reader.Buffered()) // of what is there, no error can come
	c := newH2Conn(conn, client, slices.Concat([]byte(prefaceRequest), rest))
	if !h.h2conns.give(c) {
		conn.Close()
		client.ended()
	}
}

// alpnH2 is the name of HTTP/2 over TLS: RFC 9113 section 3.2.
const alpnH2 = "h2"

// alpn returns a configuration with the protocols that are offered.
func alpn(c *tls.Config) *tls.Config {
	if c == nil || len(c.NextProtos) > 0 {
		return c
	}
	c = c.Clone()
	c.NextProtos = []string{alpnH2, "http/1.1"}
	return c
}

// tlsProblem says what is wrong with the TLS of a configuration, "" for nothing.
func tlsProblem(cfg Config) string {
	switch {
	case cfg.TLS == nil:
	case cfg.Mode != bunfile.ModeHTTP:
		return fmt.Sprintf("mode %q has no TLS; it passes on what clients send, TLS included", cfg.Mode)
	case len(cfg.TLS.Certificates) == 0 && cfg.TLS.GetCertificate == nil && cfg.TLS.GetConfigForClient == nil:
		return "the TLS configuration has no certificate"
	}
	return ""
}

// clientErrors passes on what http.Server has to say of clients now and then:
// they may do wrong by the thousand. A panic is this program's.
type clientErrors struct {
	log  *slog.Logger
	many throttle
}

func (e *clientErrors) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if strings.Contains(text, "panic serving") {
		e.log.Error(text)
	} else if n, ok := e.many.next(time.Now()); ok {
		e.log.Warn("connections of clients failed", "connections", n, "err", text)
	}
	return len(p), nil
}

// clientConnOf returns the connection of a request, nil under a server that is
// not this package's.
func clientConnOf(r *http.Request) *clientConn {
	c, _ := r.Context().Value(clientConnKey{}).(*clientConn)
	return c
}

// clientConnUnder returns the clientConn that a server's connection is, or is
// made of, nil if there is none.
func clientConnUnder(c net.Conn) *clientConn {
	switch c := c.(type) {
	case *clientConn:
		return c
	case *h2Conn:
		return c.client
	case *h1Conn:
		return c.client
	}
	return nil
}

// handover is a listener whose connections come from another server of this
// program.
type handover struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// give passes a connection on, and reports false if nobody takes it any more.
func (h *handover) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.closed:
		return false
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }

// The notice that a drain gives, once.
const (
	partUnsaid = iota
	partWanted
	partSaid
)

// h2Conn is a client's connection that speaks HTTP/2. It can tell the client to
// open no further streams, and serves those that are on their way all the same:
// the first of the two GOAWAY frames of RFC 9113 section 6.8, which http.Server
// does not send.
type h2Conn struct {
	net.Conn // client, or TLS on it
	client   *clientConn
	early    []byte // what was read before it came here
	partOnce sync.Once

	mu     sync.Mutex // held while frames are written
	begun  bool       // something was: the first frame has to be SETTINGS
	part   int
	rest   int // bytes until the end of the frame that is being written
	header [9]byte
	have   int // bytes of header
}

func newH2Conn(c net.Conn, client *clientConn, early []byte) *h2Conn {
	h := &h2Conn{Conn: c, client: client, early: early}
	client.h2.Store(h)
	return h
}

func (c *h2Conn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *h2Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.Conn.Write(p)
	c.begun = true
	c.follow(p[:n])
	if err != nil {
		return n, err
	}
	return n, c.sayPart()
}

// follow keeps account of where frames end: RFC 9113 section 4.1.
func (c *h2Conn) follow(p []byte) {
	const goAway = 0x7
	for len(p) > 0 {
		if c.rest > 0 {
			n := min(c.rest, len(p))
			c.rest -= n
			p = p[n:]
			continue
		}
		n := copy(c.header[c.have:], p)
		c.have += n
		p = p[n:]
		if c.have == len(c.header) {
			c.have = 0
			c.rest = int(binary.BigEndian.Uint32(c.header[:4]) >> 8)
			if c.header[3] == goAway {
				c.part = partSaid // the server's own, which says more
			}
		}
	}
}

// parting is a GOAWAY frame without an error that refuses no stream.
var parting = []byte{
	0, 0, 8, 0x7, 0, 0, 0, 0, 0, // 8 bytes, of type GOAWAY, of the connection
	0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, // the highest stream there is, NO_ERROR
}

// sayPart gives the notice, if that is wanted and a frame may begin. The lock is
// held.
func (c *h2Conn) sayPart() error {
	if c.part != partWanted || !c.begun || c.rest > 0 || c.have > 0 {
		return nil
	}
	c.part = partSaid
	_, err := c.Conn.Write(parting)
	return err
}

// leave gives the client notice, as soon as a frame may begin, and does not wait
// for that: the client may not be reading.
func (c *h2Conn) leave() {
	c.partOnce.Do(func() {
		go func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.part == partUnsaid {
				c.part = partWanted
			}
			c.sayPart() // where that fails, the connection does, and its server hears of it
		}()
	})
}

// malformed says what is wrong with a request that http.Server lets through,
// "" for nothing. Over HTTP/1.1 such a request cannot be written, or is
// refused, and must not become one on the way to a backend.
func malformed(r *http.Request) string {
	if r.ProtoMajor < 2 {
		return ""
	}
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) {
			return "the request names two hosts" // RFC 9113 section 8.3.1
		}
	}
	delete(r.Header, "Host")
	if lengths := r.Header["Content-Length"]; len(lengths) > 1 {
		return "the request has more than one length" // http.Server goes by the first
	}
	if strings.ContainsAny(r.RequestURI, " \t") {
		return "the path of the request has blanks"
	}
	if r.RequestURI != "*" && !strings.HasPrefix(r.RequestURI, "/") {
		return "the path of the request does not begin with a slash"
	}
	return ""
}
