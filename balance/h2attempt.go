package balance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// h2Attempt is one attempt to send a request over HTTP/2. The connection is
// others', too: whether bytes went out on it tells nothing, and it stays open.
type h2Attempt struct {
	conn     *h2Link // nil if there was none
	cancel   context.CancelCauseFunc
	ctx      context.Context
	wrote    atomic.Bool // the header, or a part of it, went out
	answered atomic.Bool
	slow     guard // of the backend that is to answer
	still    guard // of the backend that is to take what was read of the body
}

// errSilent: a backend did not take the request, or answer, in time.
var errSilent = errors.New("the backend did not take the request, or answer it, in time")

// protocolProblem says what is wrong with the protocol of a configuration, "" for
// nothing.
func protocolProblem(cfg Config) string {
	switch {
	case cfg.Protocol == "" || cfg.Protocol == bunfile.ProtocolAuto:
	case cfg.Mode != bunfile.ModeHTTP:
		return fmt.Sprintf("mode %q has no protocol of its own; it passes on what clients send", cfg.Mode)
	case cfg.Protocol != bunfile.ProtocolH2C:
		return fmt.Sprintf("protocol is %q; use %q or %q", cfg.Protocol, bunfile.ProtocolAuto, bunfile.ProtocolH2C)
	}
	return ""
}

// overH2 reports whether a request goes to backends over HTTP/2. A switch of
// protocols is one of HTTP/1.1.
func (h *httpTraffic) overH2(ex *exchange, req *http.Request) bool {
	return ex.grpc || h.protocol == bunfile.ProtocolH2C && req.Header.Get("Upgrade") == ""
}

// sendH2 sends a request to a member over HTTP/2.
func (h *httpTraffic) sendH2(ex *exchange, m *member, req *http.Request) (*http.Response, error) {
	a := new(h2Attempt)
	ex.h2 = a
	a.ctx, a.cancel = context.WithCancelCause(req.Context())
	conn, reused, err := h.h2.reserve(a.ctx, m)
	if err != nil {
		return nil, err
	}
	a.conn, ex.reused = conn, reused
	a.slow.cut = func() { a.cancel(errSilent) }
	a.still.cut = a.slow.cut
	l := h.f.limits
	out := ex.outgoing(req, m).WithContext(httptrace.WithClientTrace(a.ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { a.wrote.Store(true) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			a.still.disarm()
			if info.Err == nil && l.response > 0 && !ex.grpc {
				a.slow.arm(time.Now().Add(l.response))
			}
			if a.answered.Load() {
				a.slow.disarm()
			}
		},
	}))
	if out.Body != nil && out.Body != http.NoBody {
		b := &h2Body{src: out.Body, closed: make(chan struct{}), got: make(chan readResult, 1)}
		if !ex.grpc {
			b.still, b.stall = &a.still, l.stall
		}
		out.Body = b
	}
	resp, err := conn.RoundTrip(out)
	a.answered.Store(true)
	a.slow.disarm()
	if err == nil {
		h.h2.prove(m)
	}
	return resp, err
}

// end ends an attempt, or what is left of it after its response.
func (a *h2Attempt) end() {
	a.slow.disarm()
	a.still.disarm()
	a.cancel(nil)
}

// streamError is how an HTTP/2 connection reports the end of a stream. That of
// net/http, which nobody can name, is converted to it by errors.As, by its fields.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("stream %d: error %d", e.StreamID, e.Code) }

// Error codes of RFC 9113 section 7.
const (
	h2InternalError      = 0x2
	h2RefusedStream      = 0x7
	h2Cancel             = 0x8
	h2EnhanceYourCalm    = 0xb
	h2InadequateSecurity = 0xc
)

// goAwayText is the one thing by which net/http's error for a request that a
// GOAWAY frame says was not processed can be known. With another text such a
// request would merely not be sent again.
const goAwayText = "http2: Transport received Server's graceful shutdown GOAWAY"

// diagnoseH2 completes what the error of an attempt over HTTP/2 means.
func (h *httpTraffic) diagnoseH2(ex *exchange, m *member, f *failure) *failure {
	a := ex.h2
	var stream streamError
	isStream := errors.As(f.err, &stream)
	f.delivered = a.wrote.Load()
	refused := isStream && stream.Code == h2RefusedStream
	goneAway := f.err.Error() == goAwayText
	switch {
	case context.Cause(a.ctx) == errSilent:
		f.err, f.atMember.err = errSilent, errSilent
		f.status, f.reason, f.final = http.StatusGatewayTimeout, httpResponseTimeout, true
	case refused || goneAway:
		// RFC 9113 section 8.7: it was not processed.
		f.delivered, f.atMember.blameless = false, true
		f.status, f.reason = http.StatusServiceUnavailable, connectionRefused
	case !f.delivered && a.conn != nil && a.conn.Err() == nil && a.conn.Available() > 0:
		// The connection does not send this request, and would send others.
		f.status, f.reason, f.final, f.atMember.err = http.StatusBadRequest, httpRequestError, true, nil
	case !f.delivered:
		f.status, f.reason = http.StatusServiceUnavailable, connectionRefused
		f.atMember.blameless = a.conn != nil // it ended before its turn
	case isStream:
		f.atMember.blameless = !isFailure(f.err)
	case !h.h2.isProven(m) && h.protocol != bunfile.ProtocolH2C:
		f.reason = httpProtocolError
		f.err = fmt.Errorf("gRPC needs a backend that speaks HTTP/2 without TLS (h2c): %w", f.err)
		f.atMember.err, f.atMember.blameless = f.err, true
	}
	f.final = f.final || f.delivered && ex.interim.Load()
	ex.delivered = ex.delivered || f.delivered
	return f
}

// isFailure reports whether an error is the fault of a backend. One that ends a
// stream is alive, and may have its reasons; they may be the client's doing, such
// as a deadline. Only of the internal ones it says itself that it failed.
func isFailure(err error) bool {
	var stream streamError
	return !errors.As(err, &stream) || stream.Code == h2InternalError
}

// h2Body is a body whose Read ends with its Close. An HTTP/2 connection waits for
// that before it says that a request has failed, or is answered, be it that the
// client has not sent the rest of it.
type h2Body struct {
	src   io.ReadCloser
	still *guard // nil where backends may take their time
	stall time.Duration

	reading bool // a read of src is under way
	buf     []byte
	got     chan readResult
	once    sync.Once
	closed  chan struct{}
}

type readResult struct {
	n   int
	err error
}

// The buffer of a body, and of one that fills it.
const (
	smallBuffer = 4 << 10
	largeBuffer = 16 << 10 // the largest frame by default
)

func (b *h2Body) Read(p []byte) (int, error) {
	if b.still != nil {
		b.still.disarm()
	}
	if !b.reading {
		if b.buf == nil {
			b.buf = make([]byte, smallBuffer)
		}
		b.reading = true
		into := b.buf[:min(len(p), len(b.buf))]
		go func() {
			n, err := b.src.Read(into)
			b.got <- readResult{n, err}
		}()
	}
	select {
	case r := <-b.got:
		b.reading = false
		n := copy(p, b.buf[:r.n])
		if n == smallBuffer && len(b.buf) == smallBuffer {
			b.buf = make([]byte, largeBuffer)
		}
		if b.still != nil && n > 0 {
			b.still.arm(time.Now().Add(b.stall))
		}
		return n, r.err
	case <-b.closed:
		return 0, errBodyGone
	}
}

func (b *h2Body) Close() error {
	b.once.Do(func() { close(b.closed) })
	if b.still != nil {
		b.still.disarm()
	}
	return b.src.Close()
}
