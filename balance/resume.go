package balance

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"time"
)

// resumption is a request that the fast path has begun: the first attempt, which
// failed, or which has an answer that is not plain or is not there yet.
type resumption struct {
	m            *member // where it counts as under way
	began, asked time.Time
	// conn is nil where there was no connection. The request went out on it, or some
	// of it did, and what came back is in early.
	conn           *upstreamConn
	reused         bool
	sentAt, readAt int64
	early          []byte
	err            error // with which the attempt failed, nil if it may still succeed
}

// abandon ends what nobody goes on with.
func (r *resumption) abandon(p *pool) {
	if r.conn != nil {
		r.conn.Close()
	}
	p.release(r.m, result{})
}

// unresumed ends what the fast path began on a connection that has ended.
func (h *httpTraffic) unresumed(c *clientConn) {
	if r := c.resumed.Swap(nil); r != nil {
		r.abandon(h.f.pool)
	}
}

// resume takes over what the fast path has begun of the request, if it has.
func (ex *exchange) resume() {
	if ex.client == nil {
		return
	}
	if ex.resumed = ex.client.resumed.Swap(nil); ex.resumed != nil {
		ex.began = ex.resumed.began
	}
}

// member returns the member for the next attempt, as pool.acquire does.
func (h *httpTraffic) member(ex *exchange, req *http.Request) (*member, error) {
	if ex.resumed != nil {
		return ex.resumed.m, nil
	}
	return h.f.pool.acquire(req.Context(), ex.tried, ex.key)
}

// response waits for the answer of the attempt, and reads its head. The connection
// serves no further request.
func (r *resumption) response(ex *exchange, req *http.Request) (*http.Response, error) {
	if ex.replay != nil {
		// The backend has all of the body, and so has this machine.
		body := ex.replay.attempt()
		io.Copy(io.Discard, body) // it is at hand, or its error is kept
	}
	if r.conn == nil {
		return nil, r.err
	}
	ex.conn, ex.reused, ex.sentAt, ex.readAt = r.conn, r.reused, r.sentAt, r.readAt
	if r.err != nil {
		return nil, r.err
	}
	stop := context.AfterFunc(req.Context(), func() { r.conn.Close() })
	resp, err := r.read(ex, req)
	if err != nil {
		stop()
		return nil, err
	}
	resp.Body = &resumedBody{ReadCloser: resp.Body, conn: r.conn, stop: stop}
	return resp, nil
}

var errRespHeader = errors.New("the header of the response is too large")

// read reads the head of the final response, and passes informational ones on.
func (r *resumption) read(ex *exchange, req *http.Request) (*http.Response, error) {
	l := &ex.front.limits
	var by time.Time
	if l.response > 0 {
		by = r.asked.Add(l.response)
	}
	r.conn.Conn.SetReadDeadline(by)
	r.conn.head.begin()
	r.conn.head.see(r.early)
	bounded := &boundedReader{early: r.early, conn: r.conn, left: l.maxRespHeader}
	in := bufio.NewReader(bounded)
	for {
		resp, err := http.ReadResponse(in, req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			bounded.left = -1
			r.conn.Conn.SetReadDeadline(time.Time{})
			return resp, nil
		}
		if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(resp.StatusCode, textproto.MIMEHeader(resp.Header)); err != nil {
				return nil, err
			}
		}
	}
}

// boundedReader reads what was read before, and then from a connection, so much at
// most; anything where left is negative.
type boundedReader struct {
	early []byte
	conn  *upstreamConn
	left  int64
}

func (b *boundedReader) Read(p []byte) (n int, err error) {
	if b.left == 0 {
		return 0, errRespHeader
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if len(b.early) > 0 {
		n = copy(p, b.early)
		b.early = b.early[n:]
	} else {
		n, err = b.conn.Read(p)
	}
	if b.left > 0 {
		b.left -= int64(n)
	}
	return n, err
}

// resumedBody closes the connection with the body of its last response.
type resumedBody struct {
	io.ReadCloser
	conn *upstreamConn
	stop func() bool
}

func (b *resumedBody) Close() error {
	b.stop()
	b.conn.Close() // first: http's own would read what is left
	return b.ReadCloser.Close()
}
