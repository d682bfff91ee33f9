package balance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// The bounds of one request's attempts.
const (
	maxAttempts = 16 // altogether
	maxResent   = 3  // of those, after one that may have been received
	maxStale    = 2  // of those, forgiven because a kept-alive connection was closed
)

// failure is why an attempt, or in the end a request, failed.
type failure struct {
	status int    // to answer with, if this is the end
	reason string // RFC 9209 error type
	err    error
	// delivered: the backend may have received the request.
	delivered bool
	// final: no other attempt may follow, be the request idempotent or not.
	final bool
	// spoke: the backend sent something.
	spoke bool
	// at the member: what it means for its health.
	atMember result
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

// RoundTrip sends a request to one backend after the other until one answers or
// the rules forbid another attempt. It is ReverseProxy's transport.
func (h *httpTraffic) RoundTrip(req *http.Request) (*http.Response, error) {
	ex, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("balance: internal error: a request without an exchange")
	}
	if req.Body != nil {
		client := http.NewResponseController(ex.writer.ResponseWriter)
		// A response may begin before the request has ended. Without this
		// http.Server would first read, and throw away, what is left of it.
		if err := client.EnableFullDuplex(); err != nil {
			h.f.log.Debug("no full duplex", "err", err)
		}
		stall := h.f.limits.stall
		if ex.grpc {
			stall = 0 // a stream may rest for as long as its client likes
		}
		ex.replay = newReplayBody(req, client, stall)
	}
	last := &failure{status: http.StatusServiceUnavailable, reason: destinationUnavailable, err: ErrNoBackend}
	for {
		m, err := h.member(ex, req)
		if err != nil {
			last = &failure{status: http.StatusServiceUnavailable, reason: connectionLimitReached, err: err}
		}
		if m == nil {
			return nil, ex.verdict(last)
		}
		resp, fail := h.attempt(ex, m, req)
		if fail == nil {
			return resp, nil
		}
		last = fail
		if !ex.again(m, fail, h) {
			return nil, ex.verdict(last)
		}
	}
}

// attempt sends the request to a member. On success the member stays counted as
// busy until the response has been passed on.
func (h *httpTraffic) attempt(ex *exchange, m *member, req *http.Request) (*http.Response, *failure) {
	ex.attempts++
	ex.asked = time.Now()
	if ex.resumed != nil {
		ex.asked = ex.resumed.asked
	}
	ex.at.Store(m)
	resp, err := h.send(ex, m, req)
	if err != nil {
		fail := h.diagnose(ex, m, req.Context(), err)
		if ex.h2 != nil {
			ex.h2.end()
		}
		return nil, fail
	}
	conn := ex.connection()
	ex.conn, ex.reused = nil, false // it is the response's now
	if fail := refusedByResponse(req, resp, conn); fail != nil {
		resp.Body.Close()
		return nil, fail
	}
	if u, ok := conn.(*upstreamConn); ok && ex.h2 == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		u.head.restore(resp.Header)
	}
	if ex.replay != nil {
		ex.replay.settle()
	}
	h.f.pool.answered(m, ex.answer(resp))
	if ex.grpc {
		ex.takeGRPC(req, resp)
	}
	ex.member = m
	hideProxyStatus(resp.Header)
	if resp.StatusCode == http.StatusNoContent {
		// There is no body, and must be no length of one (RFC 9110 section 8.6):
		// clients that speak HTTP/2 take it for a response that broke off.
		resp.Header.Del("Content-Length")
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		ex.body.ReadCloser, ex.body.of = resp.Body, resp
		resp.Body = &ex.body
	}
	return resp, nil
}

// send sends the request to a member, over HTTP/1.1 or HTTP/2.
func (h *httpTraffic) send(ex *exchange, m *member, req *http.Request) (*http.Response, error) {
	if r := ex.resumed; r != nil {
		ex.resumed = nil
		return r.response(ex, req)
	}
	if h.overH2(ex, req) {
		return h.sendH2(ex, m, req)
	}
	if ex.stale > 0 {
		// There may be any number of connections that a server left behind when it
		// ended, and not all requests may be sent as often.
		return h.anew.RoundTrip(ex.outgoing(req, m))
	}
	return h.upstream.RoundTrip(ex.outgoing(req, m))
}

// outgoing addresses the request to a member. The first attempt takes req as it
// is; later ones get a copy, since http.Transport may still look at it for an
// earlier one.
func (ex *exchange) outgoing(req *http.Request, m *member) *http.Request {
	if ex.attempts > 1 {
		r, u := new(http.Request), new(url.URL)
		*r, *u = *req, *req.URL
		r.URL = u
		req = r
	}
	req.URL.Host = m.backend.Addr
	if ex.replay != nil {
		req.Body = ex.replay.attempt()
	}
	return req
}

// diagnose says what the error of an attempt at a member means.
func (h *httpTraffic) diagnose(ex *exchange, m *member, ctx context.Context, err error) *failure {
	connected := ex.conn != nil
	sent, received := ex.conclude()
	ex.delivered = ex.delivered || sent
	f := &failure{status: http.StatusBadGateway, reason: connectionTerminated, err: err, delivered: sent, spoke: received}
	// The beginning of an answer that never became one is no reason not to look
	// for a better one elsewhere (RFC 9110 section 9.2.2), where that costs
	// little: an answer may have begun because of what the body says.
	f.final = received && (ex.replay != nil || ex.interim.Load())
	f.atMember.err = err
	if ex.replay != nil {
		// Before the context, which http.Server cancels on such an error.
		if cerr := ex.replay.clientErr(); cerr != nil {
			return f.byClient(cerr)
		}
	}
	if ctx.Err() != nil {
		f.final, f.atMember.err = true, nil
		f.atMember.waited = ex.took()
		return f
	}
	var de *dialError
	switch {
	case errors.As(err, &de):
		f.status, f.reason = http.StatusServiceUnavailable, connectionRefused
		f.atMember.fatal, f.atMember.unreachable, f.atMember.blameless = !de.ours, !de.ours, de.ours
	case ex.h2 != nil:
		return h.diagnoseH2(ex, m, f)
	case !connected && !ex.delivered:
		// http.Transport finds fault with the request itself. Blaming members
		// for it would let a client take them out one by one.
		f.status, f.reason, f.final, f.atMember.err = http.StatusBadRequest, httpRequestError, true, nil
	case !sent:
		f.status, f.reason = http.StatusServiceUnavailable, connectionRefused
	case isTimeout(err):
		f.status, f.reason, f.final = http.StatusGatewayTimeout, httpResponseTimeout, true
	case received && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		f.reason = httpProtocolError
	}
	return f
}

// byClient makes the failure one of the client, whose body broke off with err.
func (e *failure) byClient(err error) *failure {
	e.err = fmt.Errorf("reading the request: %w", err)
	e.status, e.reason, e.final, e.atMember.err = http.StatusBadRequest, "", true, nil
	if isTimeout(err) {
		e.status = http.StatusRequestTimeout
	}
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		e.status = http.StatusRequestEntityTooLarge
	}
	return e
}

// refusedByResponse finds the responses that are none: failures that the Budgie proxy at
// the other end of the connection reports, a switch to a protocol that nobody asked for,
// and a status that does not exist.
func refusedByResponse(req *http.Request, resp *http.Response, conn net.Conn) *failure {
	f := &failure{status: resp.StatusCode, delivered: true}
	if resp.StatusCode < 100 {
		// net/http reads such a status, and panics where it is to write one.
		f.status, f.reason, f.final = http.StatusBadGateway, httpProtocolError, true
		f.err = fmt.Errorf("%s answered with the status %03d, which is none", req.URL.Host, resp.StatusCode)
		f.atMember.err = f.err
		return f
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		reason, ok := statusOver(conn, resp.Header)
		if !ok {
			return nil
		}
		f.reason, f.final = reason, resp.StatusCode == http.StatusGatewayTimeout
		f.reported(req, reason)
	case http.StatusOK:
		// The same for gRPC, see fail.
		if resp.Header.Get(grpcStatusField) == "" || !isGRPC(resp.Header) {
			return nil
		}
		reason, ok := statusOver(conn, resp.Header)
		if !ok {
			return nil
		}
		f.status, f.reason, f.final = statusOf(reason), reason, reason == httpResponseTimeout
		f.reported(req, reason)
	case http.StatusSwitchingProtocols:
		asked, got := req.Header.Get("Upgrade"), resp.Header.Get("Upgrade")
		if asked != "" && strings.EqualFold(asked, got) {
			return nil
		}
		f.status, f.reason, f.final = http.StatusBadGateway, httpProtocolError, true
		f.err = fmt.Errorf("%s switched to protocol %q when %q was requested", req.URL.Host, got, asked)
	default:
		return nil
	}
	f.atMember.err = f.err
	return f
}

// reported completes a failure that the proxy at the backend's place reports.
func (e *failure) reported(req *http.Request, reason string) {
	if reason == connectionLimitReached {
		e.delivered, e.atMember.blameless = false, true
	}
	if reason == connectionRefused || reason == destinationUnavailable {
		e.delivered, e.atMember.fatal = false, true
	}
	e.err = fmt.Errorf("the proxy at %s answered %d, %s", req.URL.Host, e.status, reason)
}

// statusOf returns the status that goes with an error type of this proxy.
func statusOf(reason string) int {
	switch reason {
	case connectionLimitReached, connectionRefused, destinationUnavailable:
		return http.StatusServiceUnavailable
	case httpResponseTimeout:
		return http.StatusGatewayTimeout
	case httpRequestError:
		return http.StatusBadRequest
	}
	return http.StatusBadGateway
}

// again accounts for a failed attempt and reports whether another may follow.
func (ex *exchange) again(m *member, f *failure, h *httpTraffic) bool {
	ex.delivered = ex.delivered || f.delivered
	possible := !f.final && ex.attempts < maxAttempts
	if ex.replay != nil && !ex.replay.rewind() {
		possible = false
	}
	if ex.delivered {
		ex.resent++
		possible = possible && ex.idempotent && ex.resent <= maxResent
	}
	// A server may close a kept-alive connection at any time, also when the
	// next request is on its way: no failure, and reason to try it again, on a new
	// connection.
	if stale := ex.reused && !f.atMember.fatal && !f.spoke; stale && possible && ex.stale < maxStale {
		ex.stale++
		h.f.pool.release(m, result{})
	} else {
		ex.tried = append(ex.tried, m)
		h.f.pool.release(m, f.atMember)
	}
	ex.reused = false
	if f.atMember.err != nil {
		h.f.log.Info("request failed at a backend", "backend", m.backend.ID, "addr", m.backend.Addr,
			"attempt", ex.attempts, "again", possible, "err", f.err)
	}
	return possible
}

// verdict is the failure to tell the client: where any attempt may have been
// delivered, the whole request may have been.
func (ex *exchange) verdict(last *failure) error {
	unreceived := last.reason == connectionRefused || last.reason == destinationUnavailable || last.reason == connectionLimitReached
	if ex.delivered && unreceived {
		last.status, last.reason = http.StatusBadGateway, connectionTerminated
	}
	return last
}

// fail answers a request that no backend answered.
func (h *httpTraffic) fail(w http.ResponseWriter, r *http.Request, err error) {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{status: http.StatusBadGateway, reason: httpProtocolError, err: err}
	}
	ex, _ := r.Context().Value(exchangeKey{}).(*exchange)
	if ex != nil {
		ex.failure = f
	}
	if r.Context().Err() != nil && f.status != http.StatusRequestTimeout {
		// The client left, or was cut off; nobody reads an answer.
		panic(http.ErrAbortHandler)
	}
	if n, ok := h.f.failed.next(time.Now()); ok {
		h.f.log.Warn("requests failed", "method", r.Method, "host", r.Host, "path", r.URL.Path,
			"requests", n, "status", f.status, "reason", f.reason, "err", f.err)
	}
	if f.reason != "" {
		w.Header().Set("Proxy-Status", proxyName+"; error="+f.reason)
		setHop(w.Header(), r)
	}
	text := fmt.Sprintf("service %q: ", h.f.name)
	switch {
	case f.status == http.StatusServiceUnavailable && f.reason == destinationUnavailable:
		w.Header().Set("Retry-After", "1")
		text += "no replica is available; try again in a moment"
	case f.status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
		text += "no replica could take the request; try again in a moment"
	case f.status == http.StatusRequestEntityTooLarge:
		text = h.tooLarge()
	case f.status == http.StatusGatewayTimeout:
		text += "the replica did not answer in time"
	case f.status == http.StatusBadGateway:
		text += "the replica gave no usable answer; the request may or may not have been carried out"
	default:
		text += "the request is not complete, or not valid"
	}
	if ex != nil && ex.grpc {
		code := grpcCodeOf(f.status)
		if f.status == http.StatusBadGateway {
			code = ex.grpcCode(r, f.err)
		}
		answerGRPC(w, code, text)
		return
	}
	http.Error(w, text, f.status)
}
