package balance

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/budgiehq/budgie/balance/internal/http1"
)

// answer passes the answer on whose head has come, and accounts for the request.
func (s *fastConn) answer(m *member, u *upstreamConn) outcome {
	f := s.p.h.f
	w := &s.watch
	w.reset(s, u)
	clean := s.copyBody(u, w)
	w.end()
	if s.response.Length < 0 {
		s.report.sent = s.chunks.Data()
	}
	whole := s.report.err == nil && s.report.lost == nil
	if !whole || !clean || s.response.Close || f.door.draining.Load() || u.direct == nil {
		u.Close()
	} else {
		m.idle.put(u, s.now, f.limits.upstreamIdle)
	}
	res := result{answered: true}
	if s.report.err != nil && s.report.lost == nil && f.ctx.Err() == nil && isFailure(s.report.err) {
		res.err = s.report.err
	}
	f.pool.release(m, res)
	s.account(m)
	if !whole || s.request.Close {
		return hangUp
	}
	return goOn
}

// copyBody writes the head with what has come of the body, and the rest as it comes.
// It notes errors in report. clean is false where the backend sent more than its
// answer.
func (s *fastConn) copyBody(u *upstreamConn, w *fastWatch) (clean bool) {
	if s.response.Length < 0 {
		return s.copyChunks(u, w)
	}
	left := s.response.Length
	clean = int64(len(s.got)) <= left
	s.got = s.got[:min(int64(len(s.got)), left)]
	buf, more := s.buf.in[:], 0
	large := left > int64(len(buf))
	if large {
		b := s.p.large.Get().(*[fastLarge]byte)
		defer s.p.large.Put(b)
		buf = b[:]
		s.out = append(buf[:0], s.out...) // has room for all that has come
	}
	n := copy(s.out[len(s.out):cap(s.out)], s.got)
	s.out = s.out[:len(s.out)+n]
	if large {
		more = s.ready(u, left-int64(n))
	}
	if !s.pass(s.out, n+more) || n < len(s.got) && !s.pass(s.got[n:], len(s.got)-n) {
		return clean
	}
	left -= int64(len(s.got) + more)
	for left > 0 {
		n, err := s.read(u, buf[:min(int64(len(buf)), left)], w)
		if n > 0 && !s.pass(buf[:n], n) {
			return clean
		}
		if left -= int64(n); left > 0 && err != nil {
			s.report.err = unexpected(err)
			return clean
		}
	}
	return clean
}

// ready completes out by what has come of the body already, of which left bytes are to
// come, and returns how much that was: each piece that a client gets makes it read, and
// the first read, that of the head, is a short one.
func (s *fastConn) ready(u *upstreamConn, left int64) int {
	if u.direct == nil {
		return 0
	}
	room := s.out[len(s.out):cap(s.out)]
	n := u.direct.ready(room[:min(int64(len(room)), left)])
	u.received.Add(int64(n))
	s.out = s.out[:len(s.out)+n]
	return n
}

// copyChunks is copyBody for a body of chunks, which stay as they are, see http1.Chunks.
func (s *fastConn) copyChunks(u *upstreamConn, w *fastWatch) (clean bool) {
	s.chunks = http1.Chunks{}
	p := s.got
	for {
		n, kept, err := s.chunks.Scan(p)
		if err != nil {
			s.report.err = err
			s.pass(s.out, 0)
			return false
		}
		if s.chunks.InTrailer() {
			return s.endChunks(u, w, p[:kept], p[n:])
		}
		p = p[:kept]
		if len(s.out) > 0 { // the head
			n = copy(s.out[len(s.out):cap(s.out)], p)
			if !s.pass(s.out[:len(s.out)+n], n) {
				return false
			}
			p, s.out = p[n:], nil
		}
		if len(p) > 0 && !s.pass(p, len(p)) {
			return false
		}
		n, err = s.read(u, s.buf.in[:], w)
		if n == 0 && err != nil {
			s.report.err = unexpected(err)
			return false
		}
		p = s.buf.in[:n]
	}
}

// endChunks passes the last chunks on, and the trailers that follow, of which rest has
// the beginning. Both are part of buf.in. Data does not wait for trailers, and is not
// lost where these break off; the end of the body does wait.
func (s *fastConn) endChunks(u *upstreamConn, w *fastWatch, last, rest []byte) (clean bool) {
	if len(s.out)+len(last) > cap(s.out) {
		if !s.pass(s.out, 0) {
			return false
		}
		s.out = s.out[:0]
	} else if s.out == nil {
		s.out = s.buf.out[:0]
	}
	s.out = append(s.out, last...)
	end := len(last) - 1 - bytes.LastIndexByte(last[:len(last)-1], '\n') // of them, the size of the last chunk
	have := copy(s.buf.in[:], rest)
	for {
		used, out, v := http1.Trailer(s.buf.in[:have], s.out)
		if v == http1.Plain {
			return s.pass(out, 0) && used == have
		}
		if data := len(s.out) - end; data > 0 {
			if !s.pass(s.out[:data], 0) {
				return false
			}
			s.out = append(s.out[:0], s.out[data:]...)
		}
		if v == http1.Other || have == len(s.buf.in) {
			s.report.err = http1.ErrChunks
			return false
		}
		more, err := s.read(u, s.buf.in[have:], w)
		have += more
		if more == 0 && err != nil {
			s.report.err = unexpected(err)
			return false
		}
	}
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// pass writes to the client what has some bytes of the body, and reports whether that
// went well.
func (s *fastConn) pass(p []byte, body int) bool {
	if err := s.write(p); err != nil {
		s.report.lost = err
		return false
	}
	s.report.sent += int64(body)
	return true
}

// read reads more of a body. While none comes the client is watched.
func (s *fastConn) read(u *upstreamConn, p []byte, w *fastWatch) (int, error) {
	for {
		s.now = time.Now()
		if !w.on() && due(&u.readBy, s.now, s.p.patience, s.p.patience/2) {
			u.Conn.SetReadDeadline(u.readBy)
		}
		n, err := u.io.Read(p)
		u.received.Add(int64(n))
		if n == 0 && !w.on() && isTimeout(err) {
			w.begin()
			continue
		}
		if w.on() {
			s.now = time.Now() // it may have been long
		}
		if err != nil && w.gone.Load() && s.report.lost == nil {
			s.report.lost = errClient
		}
		return n, err
	}
}

// fastWatch looks whether the client is still there while its answer, which has begun,
// takes its time.
type fastWatch struct {
	s    *fastConn
	u    *upstreamConn
	done chan struct{} // nil until it begins
	over atomic.Bool
	gone atomic.Bool
	got  int
}

func (w *fastWatch) reset(s *fastConn, u *upstreamConn) {
	w.s, w.u, w.done, w.got = s, u, nil, 0
	w.over.Store(false)
	w.gone.Store(false)
}

func (w *fastWatch) on() bool { return w.done != nil }

// begin begins that. The backend's connection has no deadline from then on.
func (w *fastWatch) begin() {
	w.u.readBy = time.Time{}
	w.u.Conn.SetReadDeadline(time.Time{})
	w.done = make(chan struct{})
	s := w.s
	s.readBy = time.Time{} // end leaves no deadline
	if s.have == len(s.in) {
		close(w.done) // there is no room for what may come, and something came
		return
	}
	s.c.Conn.SetReadDeadline(time.Time{})
	go func() {
		defer close(w.done)
		n, err := s.io.Read(s.in[s.have : s.have+1])
		w.got = n
		if n == 0 && err != nil && !w.over.Load() {
			w.gone.Store(true)
			w.u.Close()
		}
	}()
}

// end ends it. What the client has sent meanwhile is part of its next request.
func (w *fastWatch) end() {
	if !w.on() {
		return
	}
	w.over.Store(true)
	w.s.c.Conn.SetReadDeadline(longAgo)
	<-w.done
	w.s.c.Conn.SetReadDeadline(time.Time{})
	w.s.have += w.got
}

// account tells of a request that has ended.
func (s *fastConn) account(m *member) {
	f, r := s.p.h.f, &s.report
	if f.witness != nil {
		e := s.exchange()
		e.Backend, e.Status, e.Attempts = m.identity(), s.response.Status, 1
		e.Received, e.Sent = s.request.Body, r.sent
		e.Began, e.FirstByte, e.Duration = r.began, r.first, time.Since(r.began)
		switch {
		case r.err == nil && r.lost == nil:
		case f.ctx.Err() != nil:
			e.Cause, e.Err = CauseCutOff, f.ctx.Err()
		case r.lost != nil:
			e.Cause, e.Err = CauseClient, fmt.Errorf("%w: %w", errClient, r.lost)
		default:
			e.Cause, e.Err = CauseIncomplete, r.err
		}
		f.witness.Ended(f.witness.source, e)
	}
	if f.log.Enabled(f.ctx, slog.LevelDebug) {
		e := s.exchange()
		path, _, _ := strings.Cut(e.Target, "?")
		f.log.Debug("request", "method", e.Method, "host", e.Host, "path", path, "client", e.Client,
			"status", s.response.Status, "bytes", r.sent, "backend", m.backend.ID,
			"attempts", 1, "duration", time.Since(r.began))
	}
}

// exchange is what the request itself tells.
func (s *fastConn) exchange() Exchange {
	r := &s.request
	return Exchange{
		Client: s.client, Protocol: "HTTP/1.1", Method: string(r.Method), Host: string(r.Host), Target: string(r.Target),
		UserAgent: string(r.UserAgent), Referer: string(r.Referer), GRPCStatus: -1,
	}
}
