package balance

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"sync/atomic"
	"time"
)

// exchange is one request on its way through the proxy. Only the goroutine that
// serves the request uses it, and gotConn is called there; interim is set, and at
// is read, elsewhere.
type exchange struct {
	front  *frontend
	client *clientConn // nil under a server that is not this package's
	// streams: the client speaks HTTP/2.
	streams bool
	grpc    bool       // and calls by gRPC
	h2      *h2Attempt // under way over HTTP/2, or the last one, nil if that was not
	writer  responseWriter
	replay  *replayBody // nil for a request without a body
	began   time.Time
	first   time.Duration // from then to the header of the response, if somebody observes
	failure *failure      // of the whole, nil if a backend answered
	key     uint64        // of keySource

	resumed  *resumption // nil unless the fast path began it
	member   *member     // whose response is being passed on
	body     responseBody
	tried    []*member
	attempts int
	asked    time.Time // when the attempt under way began
	resent   int       // attempts after one that may have been received
	stale    int       // attempts that met a closed kept-alive connection
	// delivered: a backend may have received the request.
	delivered bool

	idempotent bool
	conn       *upstreamConn // of the attempt under way
	sentAt     int64         // bytes written and read on conn before this request
	readAt     int64
	reused     bool
	interim    atomic.Bool            // a backend sent an informational response
	at         atomic.Pointer[member] // of the attempt under way, or the last one

	triedRoom [4]*member // tried's first home
}

type exchangeKey struct{}

func newExchange(f *frontend, w http.ResponseWriter, r *http.Request) *exchange {
	ex := &exchange{
		front:      f,
		began:      time.Now(),
		key:        f.keys.ofRequest(r),
		idempotent: idempotent(r.Method),
	}
	ex.client = clientConnOf(r)
	ex.writer = responseWriter{ResponseWriter: w, ex: ex, old: !r.ProtoAtLeast(1, 1)}
	if ex.streams = r.ProtoMajor == 2; ex.streams {
		ex.grpc = isGRPC(r.Header)
		ex.idempotent = ex.idempotent && !ex.grpc
		ex.writer.slow = &guard{cut: func() { http.NewResponseController(w).SetWriteDeadline(longAgo) }}
	}
	ex.tried = ex.triedRoom[:0]
	return ex
}

// context returns ctx with the exchange and the hook that tells which
// connection an attempt goes out on.
func (ex *exchange) context(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, ex)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: ex.gotConn,
		PutIdleConn: func(error) {
			if m := ex.at.Load(); m != nil && m.gone.Load() {
				ex.front.traffic.left()
			}
		},
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			ex.interim.Store(true)
			return nil
		},
	})
}

// gotConn notes the connection of an attempt. http.Transport repeats some
// requests by itself when a kept-alive connection fails; such a repetition is
// held to the same rule, by a connection that takes nothing.
func (ex *exchange) gotConn(info httptrace.GotConnInfo) {
	sent, _ := ex.conclude()
	c, ok := info.Conn.(*upstreamConn)
	if !ok {
		return
	}
	if info.Reused {
		c.settle()
	}
	c.head.begin()
	ex.conn, ex.reused = c, info.Reused
	ex.sentAt, ex.readAt = c.sent.Load(), c.received.Load()
	if sent {
		ex.delivered = true
		if !ex.idempotent {
			c.seal()
		}
	}
}

// answer is what the response that has just begun says of the member.
func (ex *exchange) answer(resp *http.Response) answer {
	failed := resp.StatusCode >= 500 || ex.grpc && resp.Header.Get(grpcStatusField) == strconv.Itoa(grpcUnavailable)
	return answer{failed: failed, took: ex.took()}
}

// took is the time since the member had all of the request, 0 if it has not. The
// time that the client took to send it is not the member's; of an answer to a part
// of a request nothing can be told.
func (ex *exchange) took() time.Duration {
	from := ex.asked
	if ex.replay != nil {
		ended := ex.replay.endedAt()
		if ended.IsZero() {
			return 0
		}
		if ended.After(from) {
			from = ended
		}
	}
	return time.Since(from)
}

// lastOnConn reports, when the response begins, whether the client's connection
// ends with it. It does in a drain. And it does where the response is early: who
// reads the rest of the request, http.Server or http.Transport, is then a race,
// which must not decide where the next request begins. In both cases the client may go
// on sending until it has read that. Over HTTP/2 the next request has a stream of its
// own, and a drain gives notice first.
func (ex *exchange) lastOnConn() bool {
	if ex.streams {
		d := ex.front.door
		return d.draining.Load() && time.Since(d.since) > h2PartGrace
	}
	last := ex.front.door.draining.Load() || ex.replay != nil && !ex.replay.complete()
	if last && ex.client != nil {
		ex.client.linger.Store(true)
	}
	return last
}

// connection returns that of the attempt under way, nil where there is none.
func (ex *exchange) connection() net.Conn {
	switch {
	case ex.conn != nil:
		return ex.conn
	case ex.h2 != nil && ex.h2.conn != nil:
		return ex.h2.conn.under
	}
	return nil
}

// conclude makes sure that nothing more of the request goes out on the
// connection of the failed attempt, and reports whether something did, and
// whether something came back.
func (ex *exchange) conclude() (sent, received bool) {
	c := ex.conn
	if c == nil {
		return false, false
	}
	ex.conn = nil
	return c.seal() > ex.sentAt, c.received.Load() > ex.readAt
}

// idempotent reports whether a request of the method may be sent twice: RFC 9110
// section 9.2.2.
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// responseBody remembers how reading a backend's body failed.
type responseBody struct {
	io.ReadCloser
	of     *http.Response
	ended  bool // all of it was read
	err    error
	broken func(error) bool // says what that means; true if it is an end, too; may be nil
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended = true
		dropMisplaced(b.of.Trailer)
	}
	if err != nil && err != io.EOF {
		b.err = err
		if b.broken != nil && b.broken(err) {
			err = io.EOF
		}
	}
	return n, err
}
