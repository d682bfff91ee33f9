package balance_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// patience bounds the wait for what has to happen.
const patience = 30 * time.Second

// front is a frontend under test and what it logged.
type front struct {
	balance.Frontend
	log *logBuffer
}

func (f *front) url(path string) string { return "http://" + f.Addr().String() + path }

func (f *front) set(addrs ...string) {
	var b []balance.Backend
	for i, a := range addrs {
		b = append(b, balance.Backend{ID: fmt.Sprintf("b%d", i), Addr: a})
	}
	f.Update(b)
}

func open(t testing.TB, cfg balance.Config, opts ...balance.Option) *front {
	t.Helper()
	cfg.Name = "web"
	switch {
	case cfg.Mode == balance.ModeUDP && cfg.PacketConn == nil:
		cfg.PacketConn = listenUDP(t, "127.0.0.1:0")
	case cfg.Mode != balance.ModeUDP && cfg.Listener == nil:
		cfg.Listener = listen(t)
	}
	log := &logBuffer{}
	opts = append(opts, balance.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	f, err := balance.New(opts...).Listen(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
	return &front{f, log}
}

func openHTTP(t testing.TB, opts ...balance.Option) *front {
	t.Helper()
	return open(t, balance.Config{Mode: bunfile.ModeHTTP}, opts...)
}

func openTCP(t testing.TB, opts ...balance.Option) *front {
	t.Helper()
	return open(t, balance.Config{Mode: bunfile.ModeTCP}, opts...)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// deadAddr is an address at which nobody listens, until the test ends: it is that of a
// connection, or the next listener might get its port. It was chosen before connecting,
// or the dialling of it might begin there, and meet itself.
func deadAddr(t testing.TB) string {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	c, err := from.DialContext(t.Context(), "tcp", listen(t).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// httpBackend starts a server and returns its address.
func httpBackend(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func says(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
}

// rawBackend serves every connection by fn, which is told its number.
func rawBackend(t testing.TB, fn func(n int, c *net.TCPConn)) string {
	t.Helper()
	ln := listen(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				fn(n, c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// readRequest takes one request off a connection, its body included.
func readRequest(c net.Conn) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r, err
}

func newClient(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

type reply struct {
	*http.Response
	body string
}

func do(t testing.TB, req *http.Request) reply {
	t.Helper()
	resp, err := newClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the response to %s: %v", req.Method, err)
	}
	return reply{resp, string(body)}
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func get(t testing.TB, url string) reply {
	t.Helper()
	return do(t, request(t, http.MethodGet, url, nil))
}

// dial opens a connection to a frontend that cannot block for ever.
func dial(t testing.TB, f *front) *net.TCPConn {
	t.Helper()
	c := dialOrReset(t, f)
	if c == nil {
		t.Fatal("the connection was reset at once")
	}
	return c
}

// dialOrReset is dial where the frontend may reset the connection, be it before
// the dialling side has seen that it stood: then it returns nil.
func dialOrReset(t testing.TB, f *front) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", f.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// eventually waits for something that has to become true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("did not happen in time: %s", what)
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came in time")
		panic("unreachable")
	}
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
