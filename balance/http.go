package balance

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"golang.org/x/net/http/httpguts"
)

// httpTraffic is the HTTP mode: http.Server in front, one for connections that
// turn out to speak HTTP/2, ReverseProxy in between, and as its transport the
// loop over the backends.
type httpTraffic struct {
	f        *frontend
	tls      *tls.Config // nil without TLS
	server   *http.Server
	h2server *http.Server
	h2conns  *handover // from the one to the other
	proxy    *httputil.ReverseProxy
	upstream *http.Transport
	anew     *http.Transport // each request on a connection of its own
	protocol bunfile.BackendProtocol
	h2       *h2Upstream
	fast     *fastPath // nil without one
}

func newHTTPTraffic(f *frontend, cfg Config) *httpTraffic {
	errorLog := slog.NewLogLogger(f.log.Handler(), slog.LevelWarn)
	h := &httpTraffic{f: f, tls: alpn(cfg.TLS), upstream: newUpstream(f), anew: newUpstream(f), h2conns: newHandover(f.Addr()), protocol: cfg.Protocol, h2: newH2Upstream(f)}
	h.anew.DisableKeepAlives = true
	h.proxy = &httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     h,
		FlushInterval: -1,
		BufferPool:    &bufferPool{},
		ErrorHandler:  h.fail,
		ErrorLog:      errorLog,
	}
	h.server = &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is for the backend
		ReadHeaderTimeout:            f.limits.header,
		IdleTimeout:                  f.limits.keepAlive,
		MaxHeaderBytes:               f.limits.maxHeader,
		ErrorLog:                     log.New(&clientErrors{log: f.log}, "", 0),
		BaseContext:                  func(net.Listener) context.Context { return f.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, clientConnKey{}, clientConnUnder(c))
		},
		ConnState: h.followState,
		Protocols: http1Only(),
	}
	h.h2server = h.newH2Server()
	h.fast = newFastPath(h, cfg)
	return h
}

type clientConnKey struct{}

// followState keeps a clientConn's own state in step with http.Server's.
func (h *httpTraffic) followState(c net.Conn, s http.ConnState) {
	cc := clientConnUnder(c)
	if cc == nil {
		return
	}
	_, isH2 := c.(*h2Conn)
	switch s {
	case http.StateActive:
		if isH2 {
			cc.busy()
		}
	case http.StateIdle:
		if h1, ok := c.(*h1Conn); ok {
			h1.idle()
		} else {
			cc.idle()
		}
	case http.StateClosed:
		h.unresumed(cc)
		cc.ended()
	}
}

func (h *httpTraffic) serve(d *door) {
	h.f.wg.Go(func() { h.h2server.Serve(h.h2conns) }) // until stop
	if h.fast != nil {
		h.fast.serve(d)
		return
	}
	defer d.acceptEnded()
	if err := h.server.Serve(h.http1(d, h.tls)); err != nil && !d.draining.Load() {
		h.f.log.Error("frontend no longer accepts connections", "addr", d.Addr().String(), "err", err)
	}
}

// http1 returns what http.Server accepts of a listener.
func (h *httpTraffic) http1(ln net.Listener, t *tls.Config) net.Listener {
	return &h1Listener{Listener: ln, f: h.f, tls: t, errorLog: h.server.ErrorLog}
}

// left closes the connections that are kept for further requests. The backends
// that stay are connected to again; for one that is gone, and may be waiting for
// its last connection to end, this is how it does. The connection of a request
// under way is closed after that, see exchange.context.
func (h *httpTraffic) left() {
	h.upstream.CloseIdleConnections()
	h.h2.left()
}

func (h *httpTraffic) stop() {
	h.server.Close()
	h.h2server.Close()
	h.h2conns.Close()
	if h.fast != nil {
		h.fast.stop()
	}
	h.upstream.CloseIdleConnections()
}

// ServeHTTP serves one request of HTTP/1.1, or what looks like one.
func (h *httpTraffic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isPreface(r) {
		h.speakH2(w, r)
		return
	}
	if client := clientConnOf(r); client != nil && client.h1 != nil {
		defer client.h1.decide(false) // no news if it was switched
	}
	if r.ProtoMajor != 1 {
		w.Header().Set("Connection", "close")
		http.Error(w, "this proxy speaks HTTP/1.1 and HTTP/2", http.StatusHTTPVersionNotSupported)
		return
	}
	h.serveRequest(w, r)
}

// serveRequest forwards one request.
func (h *httpTraffic) serveRequest(w http.ResponseWriter, r *http.Request) {
	if status, text := h.refusal(r); status != 0 {
		h.refuse(w, r, status, text)
		return
	}
	if limit := h.f.limits.clients.Body; limit > 0 && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, limit)
	}
	ex := newExchange(h.f, w, r)
	ex.resume()
	defer h.finish(ex, r)
	h.proxy.ServeHTTP(&ex.writer, r.WithContext(ex.context(r.Context())))
}

// refusal is the answer to a request that no backend gets to see, 0 where one does.
func (h *httpTraffic) refusal(r *http.Request) (status int, text string) {
	if r.Method == http.MethodConnect {
		return http.StatusNotImplemented, "this is a reverse proxy: CONNECT is not supported"
	}
	if problem := malformed(r); problem != "" {
		return http.StatusBadRequest, problem
	}
	if r.Host == "" && r.ProtoAtLeast(1, 1) {
		// http.Server demands the field, and not that there is something in it.
		return http.StatusBadRequest, "the request names no host"
	}
	if !httpguts.ValidHostHeader(r.Host) {
		// http.Server checks the field, but not the host of an absolute target.
		return http.StatusBadRequest, "the host of the request is not valid"
	}
	if n, ok := maxForwards(r); ok && n == 0 {
		if r.Method == http.MethodTrace {
			return http.StatusNotImplemented, "this proxy, which the request may not pass, does not support TRACE"
		}
		return http.StatusOK, "this is the proxy that the request may not pass"
	}
	if limit := h.f.limits.clients.Body; limit > 0 && r.ContentLength > limit {
		return http.StatusRequestEntityTooLarge, h.tooLarge()
	}
	return 0, ""
}

// tooLarge is what is said of a body that has more than it may have.
func (h *httpTraffic) tooLarge() string {
	return fmt.Sprintf("the body of the request has more than %d bytes", h.f.limits.clients.Body)
}

// finish accounts for a request after its response has ended, or was broken off
// by a panic, which is how ReverseProxy tells http.Server to cut a connection.
func (h *httpTraffic) finish(ex *exchange, r *http.Request) {
	if ex.replay != nil {
		ex.replay.end()
	}
	if ex.h2 != nil {
		ex.h2.end()
	}
	if ex.member != nil {
		res := result{answered: true}
		if ex.body.err != nil && r.Context().Err() == nil && isFailure(ex.body.err) {
			res.err = ex.body.err
		}
		h.f.pool.release(ex.member, res)
	}
	if h.f.witness != nil {
		h.f.witness.sawRequest(ex, r)
	}
	if ex.writer.hijacked && ex.client != nil {
		ex.client.ended()
	}
	if !h.f.log.Enabled(r.Context(), slog.LevelDebug) {
		return
	}
	backend := ""
	if ex.member != nil {
		backend = ex.member.backend.ID
	}
	h.f.log.Debug("request", "method", r.Method, "host", r.Host, "path", r.URL.Path, "client", r.RemoteAddr,
		"status", ex.writer.status, "bytes", ex.writer.written, "backend", backend,
		"attempts", ex.attempts, "duration", time.Since(ex.began))
}

// responseWriter passes a response on, and says at its beginning whether the
// client's connection is used again.
type responseWriter struct {
	http.ResponseWriter
	ex       *exchange
	status   int
	written  int64
	broken   error        // of the first write that failed
	switched *countedConn // nil but after a switch of protocols that somebody observes
	hijacked bool
	old      bool // the client speaks HTTP/1.0
	// headerOnly: all there will be is a header.
	headerOnly bool
	slow       *guard // of writes to a stream, nil over HTTP/1.1, where clientConn has it
}

// Unwrap lets http.ResponseController find what is not here.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responseWriter) WriteHeader(status int) {
	if status == http.StatusContinue {
		// http.Server says so by itself when the body is read for the backend that
		// asked for it. It cannot tell that apart from this one, and would at
		// times send both.
		return
	}
	if status < 200 && w.old {
		return // RFC 9110 section 15.2: it would be taken for the response
	}
	if status < 200 {
		dropHopByHop(w.Header())
		hideProxyStatus(w.Header())
	}
	if status >= 200 {
		w.status = status
		w.begin()
		if _, ok := w.Header()["Content-Type"]; !ok {
			w.Header()["Content-Type"] = nil // or http.Server would guess one
		}
		if w.ex.lastOnConn() {
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// FlushError is what http.ResponseController calls for Flush.
func (w *responseWriter) FlushError() error {
	if w.headerOnly {
		return nil
	}
	if w.slow != nil {
		w.slow.arm(time.Now().Add(w.ex.front.limits.stall))
		defer w.slow.disarm()
	}
	err := http.NewResponseController(w.ResponseWriter).Flush()
	w.fails(err)
	return err
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.slow != nil {
		w.slow.arm(time.Now().Add(w.ex.front.limits.stall))
		defer w.slow.disarm()
	}
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	w.fails(err)
	return n, err
}

// Hijack hands the connection over for a switched protocol.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return c, rw, err
	}
	if client := w.ex.client; client != nil && client.h1 != nil {
		client.h1.decide(true)
	}
	w.hijacked, w.status = true, http.StatusSwitchingProtocols
	w.begin()
	if w.ex.front.witness != nil {
		w.switched = &countedConn{Conn: c}
		c = w.switched
	}
	return c, rw, nil
}

// bufferPool lends the buffers that bodies are copied with.
type bufferPool struct{ pool sync.Pool }

const copyBuffer = 32 << 10

func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return p[:]
	}
	return make([]byte, copyBuffer)
}

func (b *bufferPool) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }
