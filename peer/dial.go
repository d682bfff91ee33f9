package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/budgiehq/budgie/internal/stall"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// link is a connection to a node, which has accepted it.
type link struct {
	http *http.ClientConn
	// guarded is http, with answers that must not stall.
	guarded http.RoundTripper
	peer    trust.Peer
	addr    netip.AddrPort
	// host stands for the node in requests and in errors.
	host string
}

// close ends the connection.
func (l *link) close() { _ = l.http.Close() } // it is of no use any more

// get sends a request.
func (l *link) get(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "budgie")
	return l.guarded.RoundTrip(req)
}

// distinct returns the valid ones of addrs, each once, in order.
func distinct(addrs []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range addrs {
		if a.IsValid() && a.Port() != 0 && !slices.Contains(out, a) && len(out) < mostAddrs {
			out = append(out, a)
		}
	}
	return out
}

// outcome is what became of an address.
type outcome struct {
	link *link
	err  error
}

// race tries the addresses one after the other, each beside those that have not
// answered yet, in the manner of RFC 8305. The first that proves itself counts.
func (c *Client) race(ctx context.Context) (*link, error) {
	if len(c.addrs) == 0 {
		return nil, fmt.Errorf("%w: no address is known", ErrUnreachable)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome, len(c.addrs))
	next := time.NewTicker(stagger)
	defer next.Stop()
	var winner *link
	var failed failures
	started, ended := 0, 0
	until := time.Now().Add(dialTimeout)
	start := func() {
		if started < len(c.addrs) && winner == nil && ctx.Err() == nil {
			addr := c.addrs[started]
			started++
			go func() {
				l, err := c.attempt(ctx, addr, until)
				outcomes <- outcome{l, err}
			}()
			next.Reset(stagger)
		}
	}
	start()
	for ended < started {
		select {
		case <-next.C:
			start()
		case o := <-outcomes:
			ended++
			switch {
			case o.err != nil:
				failed = append(failed, o.err)
				start()
			case winner != nil:
				o.link.close()
			default:
				winner = o.link
				cancel() // the others; each is waited for
			}
		}
	}
	if winner != nil {
		return winner, nil
	}
	return nil, failed
}

// failures are the errors of all addresses. They are an ErrUnreachable if nobody
// answered at any of them.
type failures []error

// Error implements error.
func (f failures) Error() string {
	text := ""
	for i, err := range f {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return text
}

// Unwrap returns what the errors are.
func (f failures) Unwrap() []error {
	for _, err := range f {
		if errors.Is(err, trust.ErrNotTrusted) || errors.Is(err, trust.ErrRefused) || errors.Is(err, ErrBusy) || errors.Is(err, ErrInvalid) {
			return f
		}
	}
	return append(slices.Clone(f), ErrUnreachable)
}

// attempt connects to one address, which has to accept until a time.
func (c *Client) attempt(ctx context.Context, addr netip.AddrPort, until time.Time) (*link, error) {
	raw, err := patiently(ctx, time.Until(until), func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, addr) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	l, err := patiently(ctx, proveTimeout, func(ctx context.Context) (*link, error) { return c.prove(ctx, raw, addr) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, trust.Explain(err))
	}
	return l, nil
}

// patiently calls do with a time limit of its own, whose end is no end of ctx.
func patiently[T any](ctx context.Context, limit time.Duration, do func(context.Context) (T, error)) (T, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t, err := do(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("no answer within %s", limit.Round(time.Millisecond))
	}
	return t, err
}

// prove does the handshake on raw, and asks for a first answer: in TLS 1.3 that
// is where a server's refusal shows.
func (c *Client) prove(ctx context.Context, raw net.Conn, addr netip.AddrPort) (*link, error) {
	conn, err := c.flock.Client(ctx, raw, c.expected(), alpn)
	if err != nil {
		return nil, err
	}
	l := &link{addr: addr}
	if l.peer, err = trust.PeerOf(conn.ConnectionState()); err != nil {
		_ = conn.Close() // nothing was said on it
		return nil, err
	}
	l.host = fmt.Sprintf("node-%.12s", l.peer.Node)
	var h2 http.Protocols
	h2.SetHTTP2(true)
	t := &http.Transport{
		DialTLSContext:         func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Protocols:              &h2,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		HTTP2:                  &http.HTTP2Config{MaxReadFrameSize: writeSize, SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: pingTimeout},
	}
	if l.http, err = t.NewClientConn(ctx, "https", l.host+":443"); err != nil {
		_ = conn.Close() // nothing was said on it
		return nil, err
	}
	l.guarded = stall.Guard{Window: stallTimeout, MinBytes: 1}.Transport(l.http, nil)
	resp, err := l.get(ctx, &url.URL{Scheme: "https", Host: l.host, Path: pathHello}, nil)
	if err == nil {
		if err = judge(resp, http.StatusOK); err == nil {
			_, err = readAtMost(resp.Body, maxError)
		}
		_ = resp.Body.Close() // it was read
	}
	if err != nil {
		l.close()
		return nil, verdict(conn, err)
	}
	return l, nil
}

// verdict returns why a connection that has just been closed failed: the alert
// by which the other side ended it, if it did, or err. An HTTP client does not
// tell of one that came before its first request; a TLS connection keeps it.
func verdict(conn *tls.Conn, err error) error {
	if _, alert := conn.Read(make([]byte, 1)); alert != nil && errors.Is(trust.Explain(alert), trust.ErrRefused) {
		return alert
	}
	return err
}

// answerError is an answer that is an error.
type answerError struct {
	kinds []error
	text  string
}

// Error implements error.
func (e *answerError) Error() string { return e.text }

// Unwrap returns what the error is.
func (e *answerError) Unwrap() []error { return e.kinds }

// judge returns the error that an answer stands for, unless it is the wanted
// one.
func judge(resp *http.Response, want int) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" {
		return fmt.Errorf("%w: it is encoded, as %s, which was not asked for", ErrInvalid, plain(e, 32))
	}
	if resp.StatusCode == want {
		return nil
	}
	text := http.StatusText(resp.StatusCode)
	var p problems
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err == nil && json.Unmarshal(data, &p) == nil && len(p.Errors) > 0 {
		text = plain(p.Errors[0].Message, maxText)
	}
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound:
		return &answerError{[]error{ErrNotFound, runtime.ErrNoBlob}, text}
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		return &answerError{[]error{ErrBusy}, text}
	case code >= 400 && code < 600:
		return &answerError{[]error{ErrRefused}, text}
	}
	return fmt.Errorf("%w: status %d, where %d was asked for", ErrInvalid, resp.StatusCode, want)
}
