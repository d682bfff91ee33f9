package balance_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// Every way to answer badly gives its status, its reason and a log line.
func TestBadBackends(t *testing.T) {
	answer := func(s string) func(int, *net.TCPConn) {
		return func(_ int, c *net.TCPConn) {
			if _, err := readRequest(c); err == nil {
				io.WriteString(c, s)
			}
		}
	}
	tests := map[string]struct {
		serve  func(int, *net.TCPConn)
		status int
		reason string
	}{
		"closes":          {answer(""), 502, "connection_terminated"},
		"rubbish":         {answer("SSH-2.0-OpenSSH_9.9\r\n\r\n"), 502, "http_protocol_error"},
		"broken header":   {answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"), 502, "connection_terminated"},
		"two lengths":     {answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"), 502, "http_protocol_error"},
		"negative length": {answer("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), 502, "http_protocol_error"},
		"resets": {func(_ int, c *net.TCPConn) {
			if _, err := readRequest(c); err == nil {
				c.SetLinger(0)
			}
		}, 502, "connection_terminated"},
		"endless header": {func(_ int, c *net.TCPConn) {
			_, err := readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				_, err = io.WriteString(c, "X-More: "+strings.Repeat("x", 4000)+"\r\n")
			}
		}, 502, "http_protocol_error"},
		"hangs": {func(_ int, c *net.TCPConn) { io.Copy(io.Discard, c) }, 504, "http_response_timeout"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			timeout := patience
			if tc.status == http.StatusGatewayTimeout {
				timeout = 50 * time.Millisecond
			}
			f := openHTTP(t, balance.WithResponseTimeout(timeout))
			f.set(rawBackend(t, tc.serve))
			got := get(t, f.url("/"))
			if got.StatusCode != tc.status || got.Header.Get("Proxy-Status") != "budgie; error="+tc.reason ||
				!strings.Contains(got.body, `"web"`) {
				t.Errorf("got %d, Proxy-Status %q, %q; want %d, %s",
					got.StatusCode, got.Header.Get("Proxy-Status"), got.body, tc.status, tc.reason)
			}
			if !f.log.has("level=WARN", "requests failed", "service=web", "reason="+tc.reason) {
				t.Errorf("no line tells of it:\n%s", f.log)
			}
			if s := f.Status()[0]; s.Failures != 1 || s.Requests != 0 || s.LastError == nil || s.Active != 0 {
				t.Errorf("status = %+v", s)
			}
		})
	}
}

// A response that breaks off in its body breaks off at the client, too: it
// must not look whole.
func TestTruncatedBody(t *testing.T) {
	for _, framing := range []string{"Content-Length: 100\r\n\r\nsome", "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"} {
		f := openHTTP(t)
		f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
			if _, err := readRequest(c); err == nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+framing)
			}
		}))
		resp, err := newClient(t).Get(f.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil || string(body) != "some" {
			t.Errorf("got %q, %v; want what came and an error", body, err)
		}
		eventually(t, "the failure is counted", func() bool { return f.Status()[0].Failures == 1 })
		if s := f.Status()[0]; s.Requests != 1 {
			t.Errorf("status = %+v; want the request counted as answered", s)
		}
	}
}

func TestSlowClients(t *testing.T) {
	f := openHTTP(t, balance.WithHeaderTimeout(50*time.Millisecond), balance.WithStall(100*time.Millisecond))
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			for buf := make([]byte, 64<<10); ; {
				if _, err := w.Write(buf); err != nil {
					return
				}
			}
		}
		io.Copy(w, r.Body)
	}))
	t.Run("header", func(t *testing.T) {
		c := dial(t, f)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost:")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("read: %v; want the connection closed", err)
		}
	})
	t.Run("body", func(t *testing.T) {
		c := dial(t, f)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhalf")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("got %v, %v; want 408", resp, err)
		}
	})
	t.Run("reader", func(t *testing.T) {
		c := dial(t, f)
		io.WriteString(c, "GET /endless HTTP/1.1\r\nHost: web\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		// Nothing more is read: the proxy has to give up by itself.
		eventually(t, "the end of a response that nobody reads", func() bool { return f.Status()[0].Active == 0 })
	})
	if s := f.Status()[0]; s.Failures != 0 || !s.Healthy {
		t.Errorf("status = %+v; slow clients are not the backend's failure", s)
	}
}

func TestClientLeaves(t *testing.T) {
	f := openHTTP(t)
	arrived := make(chan struct{}, 1)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if resp, err := newClient(t).Do(request(t, http.MethodGet, f.url("/"), nil).WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Fatal("the request was answered")
	}
	eventually(t, "the end of the request", func() bool { return f.Status()[0].Active == 0 })
	if s := f.Status()[0]; s.Failures != 0 || s.Requests != 0 || !s.Healthy || s.LastError != nil {
		t.Errorf("status = %+v; a client that leaves is no failure", s)
	}
}

// What is wrong with a request is not held against the backends, nor can it
// forge a field of them.
func TestInvalidRequests(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, says("served")))
	for _, head := range []string{
		"GET http://a\";for=evil/ HTTP/1.1\r\nHost: web\r\n\r\n",
		"GET http://a<b>/ HTTP/1.1\r\nHost: web\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\"b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: web\r\nX:\x01\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		"GET / HTTP/1.1\r\nHost: web\r\nContent-Length: -1\r\n\r\nx",
		"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		c := dial(t, f)
		io.WriteString(c, head)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: got %v, %v; want 400", head, resp, err)
		}
		c.Close()
	}
	eventually(t, "nothing under way", func() bool { return f.Status()[0].Active == 0 })
	if s := f.Status()[0]; s.Failures != 0 || s.Requests != 0 || !s.Healthy || s.LastError != nil {
		t.Errorf("status = %+v", s)
	}
}

func TestPassiveEjectionAndReturn(t *testing.T) {
	var broken atomic.Bool
	var requests atomic.Int64
	broken.Store(true)
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Check: &balance.Check{Path: "/health", Interval: 5 * time.Millisecond}})
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			if broken.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return
		}
		requests.Add(1)
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
	}), httpBackend(t, says("good")))
	eventually(t, "the first is taken out", func() bool { return !f.Status()[0].Healthy })
	before := requests.Load()
	for range 10 {
		if got := get(t, f.url("/")); got.body != "good" {
			t.Errorf("got %d %q", got.StatusCode, got.body)
		}
	}
	if requests.Load() != before {
		t.Error("a backend out of rotation got requests")
	}
	broken.Store(false)
	eventually(t, "the first is back", func() bool { return f.Status()[0].Healthy })
	for range 2 {
		get(t, f.url("/"))
	}
	if requests.Load() != before+1 {
		t.Errorf("the returned backend got %d requests of 2; want 1", requests.Load()-before)
	}
}

// Three requests in a row that break off take a backend out without any check.
func TestTrafficEjects(t *testing.T) {
	var received atomic.Int64
	f := openHTTP(t)
	f.set(brokenOff(t, &received, nil))
	for i := range 3 {
		if !f.Status()[0].Healthy {
			t.Fatalf("out of rotation after %d failures", i)
		}
		do(t, request(t, http.MethodPost, f.url("/"), nil))
	}
	if f.Status()[0].Healthy {
		t.Error("in rotation after three failures in a row")
	}
}

// Where every check fails, every backend is tried.
func TestCaseB4ChecksNeverEmptyAPool(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Check: &balance.Check{Path: "/health", Interval: 5 * time.Millisecond, Fall: 1}})
	sick := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	f.set(httpBackend(t, sick), httpBackend(t, sick))
	eventually(t, "both are out", func() bool { s := f.Status(); return !s[0].Healthy && !s[1].Healthy })
	for range 4 {
		if got := get(t, f.url("/")); got.StatusCode != http.StatusOK {
			t.Errorf("got %d; want the sick ones tried", got.StatusCode)
		}
	}
	eventually(t, "the counts", func() bool { s := f.Status(); return s[0].Requests == 2 && s[1].Requests == 2 })
	for _, s := range f.Status() {
		if s.Healthy || s.LastError == nil || s.Failures != 0 {
			t.Errorf("status = %+v; answers do not overrule the check, nor does the check count as traffic", s)
		}
	}
}

func TestChecks(t *testing.T) {
	code := func(n int) string {
		return httpBackend(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/") // not to be followed
			w.WriteHeader(n)
		})
	}
	silent := rawBackend(t, func(_ int, c *net.TCPConn) { io.Copy(io.Discard, c) })
	tests := []struct {
		name    string
		mode    bunfile.BalanceMode
		path    string
		addr    string
		healthy bool
	}{
		{"200", bunfile.ModeHTTP, "/", code(200), true},
		{"302", bunfile.ModeHTTP, "/", code(302), true},
		{"404", bunfile.ModeHTTP, "/", code(404), false},
		{"500", bunfile.ModeHTTP, "/", code(500), false},
		{"silent", bunfile.ModeHTTP, "/", silent, false},
		{"dead", bunfile.ModeHTTP, "/", deadAddr(t), false},
		{"accepts", bunfile.ModeHTTP, "", silent, true},
		{"TCP accepts", bunfile.ModeTCP, "/ignored", silent, true},
		{"TCP dead", bunfile.ModeTCP, "", deadAddr(t), false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			check := &balance.Check{Path: tc.path, Interval: 2 * time.Millisecond, Timeout: 20 * time.Millisecond, Fall: 2}
			if tc.healthy {
				check.Timeout = time.Second
			}
			f := open(t, balance.Config{Mode: tc.mode, Check: check})
			other := code(500)
			if tc.mode == bunfile.ModeTCP || tc.path == "" {
				other = deadAddr(t)
			}
			f.set(tc.addr, other)
			// The second one's fall shows that probes go on.
			eventually(t, "the verdict", func() bool {
				s := f.Status()
				return !s[1].Healthy && (s[0].Healthy == tc.healthy)
			})
			if s := f.Status()[0]; tc.healthy != (s.LastError == nil) {
				t.Errorf("status = %+v", s)
			}
		})
	}
}

// The pool of an idle machine is not exhausted by many connections at once.
func TestManyAtOnce(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Algorithm: bunfile.LeastConnections})
	var peak [2]atomic.Int64
	all := make(chan struct{})
	var arrived atomic.Int64
	hold := func(i int) string {
		return httpBackend(t, func(w http.ResponseWriter, _ *http.Request) {
			peak[i].Add(1)
			if arrived.Add(1) == 64 {
				close(all)
			}
			<-all
		})
	}
	f.set(hold(0), hold(1))
	client := newClient(t)
	errs := make(chan error, 64)
	for range 64 {
		go func() {
			resp, err := client.Get(f.url("/"))
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					err = fmt.Errorf("status %d", resp.StatusCode)
				}
			}
			errs <- err
		}()
	}
	for range 64 {
		if err := receive(t, errs); err != nil {
			t.Error(err)
		}
	}
	if a, b := peak[0].Load(), peak[1].Load(); a != 32 || b != 32 {
		t.Errorf("64 requests at once went %d to %d; want 32 to 32", a, b)
	}
}
