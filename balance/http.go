package balance

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// httpTraffic is the HTTP mode: http.Server in front, ReverseProxy in between,
// and as its transport the loop over the backends.
type httpTraffic struct {
	f        *frontend
	server   *http.Server
	proxy    *httputil.ReverseProxy
	upstream *http.Transport
}

func newHTTPTraffic(f *frontend) *httpTraffic {
	errorLog := slog.NewLogLogger(f.log.Handler(), slog.LevelWarn)
	h := &httpTraffic{f: f, upstream: newUpstream(f)}
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
		ErrorLog:                     errorLog,
		BaseContext:                  func(net.Listener) context.Context { return f.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, clientConnKey{}, c)
		},
		ConnState: followState,
	}
	return h
}

type clientConnKey struct{}

// followState keeps a clientConn's own state in step with http.Server's.
func followState(c net.Conn, s http.ConnState) {
	cc, ok := c.(*clientConn)
	if !ok {
		return
	}
	switch s {
	case http.StateIdle:
		cc.idle()
	case http.StateClosed:
		cc.ended()
	}
}

func (h *httpTraffic) serve(d *door) {
	defer d.acceptEnded()
	if err := h.server.Serve(d); err != nil && !d.draining.Load() {
		h.f.log.Error("frontend no longer accepts connections", "addr", d.Addr().String(), "err", err)
	}
}

// left closes the connections that are kept for further requests. The backends
// that stay are connected to again; for one that is gone, and may be waiting for
// its last connection to end, this is how it does. The connection of a request
// under way is closed after that, see exchange.context.
func (h *httpTraffic) left() { h.upstream.CloseIdleConnections() }

func (h *httpTraffic) stop() {
	h.server.Close()
	h.upstream.CloseIdleConnections()
}

// ServeHTTP forwards one request.
func (h *httpTraffic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		http.Error(w, "this is a reverse proxy: CONNECT is not supported", http.StatusNotImplemented)
		return
	}
	if r.ProtoMajor != 1 {
		// The preface of HTTP/2 (RFC 9113 section 3.4), the one request of
		// another version that http.Server lets through.
		w.Header().Set("Connection", "close")
		http.Error(w, "this proxy speaks HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	if r.Host == "" && r.ProtoAtLeast(1, 1) {
		// http.Server demands the field, and not that there is something in it.
		http.Error(w, "the request names no host", http.StatusBadRequest)
		return
	}
	if !httpguts.ValidHostHeader(r.Host) {
		// http.Server checks the field, but not the host of an absolute target.
		http.Error(w, "the host of the request is not valid", http.StatusBadRequest)
		return
	}
	if limit := h.f.limits.clients.Body; limit > 0 && r.Body != http.NoBody {
		if r.ContentLength > limit {
			w.Header().Set("Connection", "close")
			http.Error(w, fmt.Sprintf("the body of the request has more than %d bytes", limit), http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
	}
	ex := newExchange(h.f, w, r)
	defer h.finish(ex, r)
	h.proxy.ServeHTTP(&ex.writer, r.WithContext(ex.context(r.Context())))
}

// finish accounts for a request after its response has ended, or was broken off
// by a panic, which is how ReverseProxy tells http.Server to cut a connection.
func (h *httpTraffic) finish(ex *exchange, r *http.Request) {
	if ex.replay != nil {
		ex.replay.end()
	}
	if ex.member != nil {
		res := result{answered: true}
		if ex.body.err != nil && r.Context().Err() == nil {
			res.err = ex.body.err
		}
		h.f.pool.release(ex.member, res)
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
	hijacked bool
}

// Unwrap lets http.ResponseController find Flush.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responseWriter) WriteHeader(status int) {
	if status == http.StatusContinue {
		// http.Server says so by itself when the body is read for the backend that
		// asked for it. It cannot tell that apart from this one, and would at
		// times send both.
		return
	}
	if status >= 200 {
		w.status = status
		if w.ex.lastOnConn() {
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// Hijack hands the connection over for a switched protocol.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked, w.status = true, http.StatusSwitchingProtocols
	}
	return c, rw, err
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
