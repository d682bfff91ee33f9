package balance

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// errRoom is why UDP sessions are cut off.
var errRoom = errors.New("the session made room for another, or the frontend was shut down")

// errClient: writing to a client, or waiting for it, failed.
var errClient = errors.New("the client left")

// sawRequest tells the observer of a request that has ended.
func (w *witness) sawRequest(ex *exchange, r *http.Request) {
	e := ofRequest(r)
	e.GRPC = ex.grpc
	e.Status, e.Sent = ex.writer.status, ex.writer.written
	e.Began, e.Duration, e.FirstByte = ex.began, time.Since(ex.began), ex.first
	e.Attempts = ex.attempts
	if m := ex.at.Load(); m != nil {
		e.Backend = m.identity()
	}
	if ex.replay != nil {
		e.Received = ex.replay.received()
	}
	if c := ex.writer.switched; c != nil {
		e.Received, e.Sent = c.in.Load(), c.out.Load()
	}
	e.Cause, e.Err = ex.cause(r)
	if ex.grpc {
		e.GRPCStatus = grpcStatusOf(ex.writer.Header())
	}
	w.Ended(w.source, e)
}

// ofRequest is what a request itself tells.
func ofRequest(r *http.Request) Exchange {
	return Exchange{
		Client: r.RemoteAddr, Protocol: r.Proto, Method: r.Method, Host: r.Host, Target: r.RequestURI,
		UserAgent: r.UserAgent(), Referer: r.Referer(), GRPCStatus: -1,
	}
}

// refuse answers a request that no backend gets to see.
func (h *httpTraffic) refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	began := time.Now()
	if status == http.StatusRequestEntityTooLarge && r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	grpc := r.ProtoMajor == 2 && isGRPC(r.Header)
	counted := &countedWriter{ResponseWriter: w}
	reply(counted, grpc, status, text)
	if h.f.witness == nil {
		return
	}
	e := ofRequest(r)
	e.GRPC, e.Status, e.Began, e.Duration = grpc, status, began, time.Since(began)
	if r.Method != http.MethodHead {
		e.Sent = counted.sent
	}
	if grpc {
		e.Status, e.GRPCStatus = http.StatusOK, grpcCodeOf(status)
	}
	e.FirstByte = e.Duration
	if status >= 400 {
		e.Cause, e.Err = CauseRequest, errors.New(text)
	}
	h.f.witness.Ended(h.f.witness.source, e)
}

// cause says why a request did not go well.
func (ex *exchange) cause(r *http.Request) (Cause, error) {
	f, gone := ex.failure, r.Context().Err() != nil
	whole := ex.body.ended && ex.writer.broken == nil || ex.writer.hijacked
	switch {
	case f == nil && ex.member != nil && whole:
		// What became of the client after that is of no interest.
		if ex.body.err != nil {
			return CauseIncomplete, ex.body.err
		}
		return CauseNone, nil
	case ex.front.ctx.Err() != nil:
		return CauseCutOff, ex.front.ctx.Err()
	case f != nil && !(gone && ex.writer.status == 0):
		if f.reason == "" {
			return CauseRequest, f.err
		}
		return Cause(f.reason), f.err
	case ex.writer.broken != nil:
		return CauseClient, fmt.Errorf("%w: %w", errClient, ex.writer.broken)
	case gone:
		return CauseClient, errClient
	case ex.body.err != nil:
		return CauseIncomplete, ex.body.err
	}
	return CauseNone, nil
}

// grpcStatusOf returns the code among the fields and trailers of an answer, -1
// where there is none.
func grpcStatusOf(h http.Header) int {
	code := h.Get(grpcStatusField)
	if code == "" {
		code = h.Get(http.TrailerPrefix + grpcStatusField)
	}
	n, err := strconv.ParseUint(code, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

// begin notes that the header of the response goes out.
func (w *responseWriter) begin() {
	if w.ex.front.witness != nil {
		w.ex.first = time.Since(w.ex.began)
	}
}

// fails notes the error of a write.
func (w *responseWriter) fails(err error) {
	if err != nil && w.broken == nil {
		w.broken = err
	}
}

// countedWriter counts the bytes of a response's body.
type countedWriter struct {
	http.ResponseWriter
	sent int64
}

func (w *countedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// countedConn is a client's connection after a switch of protocols.
type countedConn struct {
	net.Conn
	in, out atomic.Int64 // bytes
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	return n, err
}

// CloseWrite ends the sending direction.
func (c *countedConn) CloseWrite() error {
	cw, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("connection %T cannot be closed for writing", c.Conn)
	}
	return cw.CloseWrite()
}
