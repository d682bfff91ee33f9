package balance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"golang.org/x/net/http2"
)

func openH2C(t testing.TB, opts ...balance.Option) *front {
	t.Helper()
	return open(t, balance.Config{Mode: bunfile.ModeHTTP, Protocol: bunfile.ProtocolH2C}, opts...)
}

// mixedBackend is a server of HTTP/1.1 and h2c that counts its connections.
func mixedBackend(t testing.TB, conns *atomic.Int64, h http.Handler) string {
	t.Helper()
	p := onlyH2C()
	p.SetHTTP1(true)
	ln := listen(t)
	s := &http.Server{Protocols: p, Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew && conns != nil {
			conns.Add(1)
		}
	}}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); receive(t, served) })
	return ln.Addr().String()
}

// With the protocol h2c requests of either version go to backends over HTTP/2,
// but for upgrades.
func TestProtocolH2C(t *testing.T) {
	f := openH2C(t)
	f.set(mixedBackend(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", fmt.Sprint(r.Proto, " ", r.Host, " ", r.Header.Get("X-Forwarded-For")))
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(w, r.Body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
	})))
	for _, do := range []func(testing.TB, *http.Request) reply{do, doH2} {
		body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		req := request(t, http.MethodPost, f.url("/"), io.NopCloser(bytes.NewReader(body)))
		req.Host = "web.example"
		req.Trailer = http.Header{"X-In": {"sum"}}
		got := do(t, req)
		if got.body != string(body) || got.Trailer.Get("X-Sum") != "sum" {
			t.Errorf("%s: got %d bytes, trailers %v", got.Proto, len(got.body), got.Trailer)
		}
		if seen, want := got.Header.Get("X-Seen"), "HTTP/2.0 web.example 127.0.0.1"; seen != want {
			t.Errorf("%s: the backend saw %s; want %s", got.Proto, seen, want)
		}
	}
	f.set(echoSocket(t))
	c := dialSocket(t, f)
	if err := echo(c, "over HTTP/1.1"); err != nil {
		t.Error(err)
	}
	c.Close()
}

// A burst does not open a connection for each of its requests.
func TestH2UpstreamSharesConnections(t *testing.T) {
	const requests = 600
	f := openH2C(t)
	var conns atomic.Int64
	var arrived sync.WaitGroup
	arrived.Add(requests)
	f.set(mixedBackend(t, &conns, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived.Done()
		arrived.Wait()
	})))
	c := newH2Client(t)
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			resp, err := c.Do(request(t, http.MethodGet, f.url("/"), nil))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	// The server takes 250 streams of a connection; until it has said so, 100 are
	// taken for the limit.
	if n := conns.Load(); n > 6 {
		t.Errorf("%d connections for %d requests", n, requests)
	}
}

// A backend that takes, or sends, nothing is answered for in time, and blamed as
// one of HTTP/1.1 is.
func TestH2UpstreamPatience(t *testing.T) {
	f := openH2C(t, balance.WithResponseTimeout(100*time.Millisecond), balance.WithStall(300*time.Millisecond))
	f.set(h2Backend(t, func(_ int, h *rawH2, stream uint32) {}))
	for name, body := range map[string]io.Reader{"no answer": nil, "no answer to a body": strings.NewReader("x"), "no reader": bytes.NewReader(make([]byte, 1<<20))} {
		got := do(t, request(t, http.MethodPost, f.url("/"), body))
		if got.StatusCode != http.StatusGatewayTimeout || got.Header.Get("Proxy-Status") != "budgie; error=http_response_timeout" {
			t.Errorf("%s: %d, %s", name, got.StatusCode, got.Header.Get("Proxy-Status"))
		}
	}
	if s := f.Status()[0]; s.Failures != 3 || s.Active != 0 || s.Healthy {
		t.Errorf("status = %+v", s)
	}
}

// The rules of repetition are those of HTTP/1.1.
func TestH2UpstreamRepetition(t *testing.T) {
	for name, tc := range map[string]struct {
		method string
		fail   func(h *rawH2, stream uint32)
		status int
	}{
		"lost GET":     {http.MethodGet, func(h *rawH2, _ uint32) { h.conn.Close() }, 200},
		"lost PUT":     {http.MethodPut, func(h *rawH2, _ uint32) { h.conn.Close() }, 200},
		"lost POST":    {http.MethodPost, func(h *rawH2, _ uint32) { h.conn.Close() }, 502},
		"refused POST": {http.MethodPost, func(h *rawH2, s uint32) { h.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, 200},
		"unread POST":  {http.MethodPost, func(h *rawH2, s uint32) { h.WriteGoAway(0, http2.ErrCodeNo, nil) }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			f := openH2C(t)
			f.set(h2Backend(t, func(_ int, h *rawH2, stream uint32) { tc.fail(h, stream) }),
				mixedBackend(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })))
			// What was read of the body is kept for the next attempt.
			body, say := io.Pipe()
			go func() { io.WriteString(say, "said"); say.Close() }()
			var got reply
			if tc.method == http.MethodGet {
				got = do(t, request(t, tc.method, f.url("/"), nil))
			} else {
				got = do(t, request(t, tc.method, f.url("/"), body))
			}
			body.Close()
			if got.StatusCode != tc.status {
				t.Errorf("status %d %q; want %d", got.StatusCode, got.body, tc.status)
			}
			if tc.status == 200 && tc.method != http.MethodGet && got.body != "said" {
				t.Errorf("the second backend got %q", got.body)
			}
		})
	}
}

// A backend that does not take a request of this size is not to blame.
func TestH2UpstreamRequestTooLarge(t *testing.T) {
	f := openH2C(t)
	ln := listen(t)
	s := &http.Server{Protocols: onlyH2C(), MaxHeaderBytes: 1000, Handler: says("served")}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); receive(t, served) })
	f.set(ln.Addr().String())
	if got := get(t, f.url("/")); got.body != "served" {
		t.Fatalf("got %q", got.body)
	}
	for range 5 {
		req := request(t, http.MethodGet, f.url("/"), nil)
		req.Header.Set("X-Large", strings.Repeat("x", 100_000))
		if got := do(t, req); got.StatusCode != http.StatusBadRequest {
			t.Errorf("got %d %q", got.StatusCode, got.body)
		}
	}
	if st := f.Status()[0]; st.Failures != 0 || !st.Healthy {
		t.Errorf("status = %+v", st)
	}
}

// An early answer reaches a client that has not sent all of its request, and the
// backend is rid of it.
func TestH2UpstreamEarlyAnswer(t *testing.T) {
	f := openH2C(t)
	f.set(mixedBackend(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	})))
	h := dialH2(t, f)
	h.ask(t, 1, false, ":method", "POST")
	if got := h.status(t, 1); got != "401" {
		t.Errorf("got %s", got)
	}
	eventually(t, "the end of the request", func() bool { s := f.Status()[0]; return s.Active == 0 && s.Failures == 0 })
}

// Checks ask in the protocol that is configured.
func TestH2CCheck(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Protocol: bunfile.ProtocolH2C, Check: &balance.Check{Path: "/up", Interval: 5 * time.Millisecond}})
	var probes atomic.Int64
	ln := listen(t)
	s := &http.Server{Protocols: onlyH2C(), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/up" {
			probes.Add(1)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); receive(t, served) })
	f.set(ln.Addr().String())
	eventually(t, "probes", func() bool { return probes.Load() > 5 })
	if st := f.Status()[0]; !st.Healthy || st.LastError != nil {
		t.Errorf("status = %+v", st)
	}
}

func TestInvalidProtocol(t *testing.T) {
	for _, cfg := range []balance.Config{
		{Mode: bunfile.ModeTCP, Listener: listen(t), Protocol: bunfile.ProtocolH2C},
		{Mode: bunfile.ModeHTTP, Listener: listen(t), Protocol: "h3"},
		{Mode: bunfile.ModeHTTP, Listener: listen(t), Limits: balance.Limits{Streams: -1}},
	} {
		if _, err := balance.New().Listen(context.Background(), cfg); !errors.Is(err, balance.ErrInvalid) {
			t.Errorf("%s: err = %v, want ErrInvalid", cfg.Mode, err)
		}
	}
}
