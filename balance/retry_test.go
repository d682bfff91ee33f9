package balance_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// A refused connection costs no request of any kind.
func TestDeadBackendIsSkipped(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch} {
		for _, size := range []int{0, 10, 1 << 20} {
			t.Run(fmt.Sprintf("%s %d", method, size), func(t *testing.T) {
				f := openHTTP(t)
				f.set(deadAddr(t), httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
					n, err := io.Copy(io.Discard, r.Body)
					fmt.Fprint(w, n, err)
				}))
				got := do(t, request(t, method, f.url("/"), strings.NewReader(strings.Repeat("x", size))))
				if want := fmt.Sprint(size, error(nil)); got.StatusCode != http.StatusOK || got.body != want {
					t.Errorf("got %d %q; want 200 %q", got.StatusCode, got.body, want)
				}
				eventually(t, "the counts", func() bool { s := f.Status(); return s[1].Requests == 1 && s[1].Active == 0 })
				if s := f.Status()[0]; s.Healthy || s.Failures != 1 || s.Requests != 0 || s.LastError == nil {
					t.Errorf("status of the dead one = %+v", s)
				}
			})
		}
	}
}

// A backend that is killed under load costs no GET.
func TestKilledUnderLoad(t *testing.T) {
	f := openHTTP(t)
	victim := httptest.NewServer(says("victim"))
	defer victim.Close()
	f.set(victim.Listener.Addr().String(), httpBackend(t, says("a")), httpBackend(t, says("b")))
	client := newClient(t)
	var sent atomic.Int64
	var kill sync.Once
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for sent.Add(1) <= 1000 {
				if sent.Load() >= 500 {
					kill.Do(func() {
						victim.Listener.Close()
						victim.CloseClientConnections()
					})
				}
				resp, err := client.Get(f.url("/"))
				if err != nil {
					t.Errorf("GET: %v", err)
					continue
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("GET: %d %q, %v", resp.StatusCode, body, err)
				}
			}
		})
	}
	wg.Wait()
	if s := f.Status()[0]; s.Failures == 0 {
		t.Errorf("status of the victim = %+v; want failures, or nothing was tested", s)
	}
}

// brokenOff is a backend that takes whole requests and closes without an answer.
func brokenOff(t *testing.T, requests *atomic.Int64, seen func(*http.Request)) string {
	return rawBackend(t, func(_ int, c *net.TCPConn) {
		r, err := readRequest(c)
		if err != nil {
			return
		}
		requests.Add(1)
		if seen != nil {
			seen(r)
		}
	})
}

// What may have been carried out is sent again only where that is harmless.
func TestBrokenOffAfterReceipt(t *testing.T) {
	tests := []struct {
		method, body string
		header       string
		again        bool
	}{
		{method: "GET", again: true},
		{method: "HEAD", again: true},
		{method: "OPTIONS", again: true},
		{method: "DELETE", again: true},
		{method: "PUT", body: "small", again: true},
		{method: "PUT", body: strings.Repeat("x", 1<<20)},
		{method: "POST"},
		{method: "POST", body: "small"},
		{method: "POST", header: "Idempotency-Key"},
		{method: "POST", header: "X-Idempotency-Key"},
		{method: "PATCH", body: "small"},
		{method: "PROPFIND"},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprint(tc.method, len(tc.body), tc.header), func(t *testing.T) {
			var received atomic.Int64
			header := make(chan string, 4)
			f := openHTTP(t)
			seen := func(r *http.Request) { header <- r.Header.Get(tc.header) }
			f.set(brokenOff(t, &received, seen), brokenOff(t, &received, seen))
			req := request(t, tc.method, f.url("/"), strings.NewReader(tc.body))
			if tc.header != "" {
				req.Header.Set(tc.header, "k")
			}
			got := do(t, req)
			want := int64(1)
			if tc.again {
				want = 2
			}
			if n := received.Load(); n != want {
				t.Errorf("received %d times; want %d", n, want)
			}
			if tc.header != "" && receive(t, header) != "k" {
				t.Errorf("the field %s is lost", tc.header)
			}
			if got.StatusCode != http.StatusBadGateway || got.Header.Get("Proxy-Status") != "budgie; error=connection_terminated" {
				t.Errorf("got %d, Proxy-Status %q", got.StatusCode, got.Header.Get("Proxy-Status"))
			}
			if !f.log.has("level=WARN", "requests failed", tc.method, "connection_terminated") {
				t.Errorf("the log does not tell:\n%s", f.log)
			}
		})
	}
}

// talksOther is a backend that takes whole requests and answers with something
// that is no HTTP.
func talksOther(t *testing.T, answer string, requests *atomic.Int64) string {
	return rawBackend(t, func(_ int, c *net.TCPConn) {
		if _, err := readRequest(c); err == nil {
			requests.Add(1)
			io.WriteString(c, answer)
		}
	})
}

// An answer that is none costs no request that may be sent again, and no other
// is sent twice.
func TestUnusableAnswers(t *testing.T) {
	for _, answer := range []string{
		"SSH-2.0-OpenSSH_9.9\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		"HTTP/1.1 103 Early Hints\r\n\r\nrubbish",
	} {
		for _, tc := range []struct{ method, body string }{{"GET", ""}, {"DELETE", ""}, {"PUT", "small"}, {"POST", ""}, {"POST", "small"}} {
			t.Run(fmt.Sprintf("%.16q %s %s", answer, tc.method, tc.body), func(t *testing.T) {
				var rubbish, good atomic.Int64
				f := openHTTP(t)
				f.set(talksOther(t, answer, &rubbish), httpBackend(t, func(w http.ResponseWriter, _ *http.Request) {
					good.Add(1)
					io.WriteString(w, "good")
				}))
				got := do(t, request(t, tc.method, f.url("/"), strings.NewReader(tc.body)))
				// A body may be why the answer is what it is, and hints are an
				// answer already.
				again := tc.method != "POST" && tc.body == "" && !strings.Contains(answer, " 103 ")
				if again && (got.StatusCode != http.StatusOK || got.body != "good" || good.Load() != 1) {
					t.Errorf("got %d %q; want it served by the other", got.StatusCode, got.body)
				}
				if !again && (got.StatusCode != http.StatusBadGateway || good.Load() != 0) {
					t.Errorf("got %d, and %d requests at the other; want 502 and none", got.StatusCode, good.Load())
				}
				if rubbish.Load() != 1 {
					t.Errorf("the first received it %d times", rubbish.Load())
				}
			})
		}
	}
}

// A backend that accepts connections and does not speak HTTP costs three
// attempts, and is then left alone for its time, though its check, which only
// connects, succeeds over and over.
func TestRubbishBehindGoodCheck(t *testing.T) {
	var rubbish, probes atomic.Int64
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Check: &balance.Check{Interval: 5 * time.Millisecond}})
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		if _, err := readRequest(c); err != nil {
			probes.Add(1)
			return
		}
		rubbish.Add(1)
		io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n\r\n")
	}), httpBackend(t, says("good")))
	began := time.Now()
	for sent := probes.Load(); rubbish.Load() < 3 || probes.Load() < sent+10; {
		if got := get(t, f.url("/")); got.StatusCode != http.StatusOK {
			t.Fatalf("got %d %q", got.StatusCode, got.body)
		}
		if rubbish.Load() < 3 {
			sent = probes.Load()
		}
	}
	// On a machine so slow that the time is over it may be its turn again.
	if n := rubbish.Load(); n != 3 && time.Since(began) < time.Second {
		t.Errorf("it got %d requests; want 3", n)
	}
}

// closesKeptAlive is a backend that answers the first request of each
// connection, promises to stay, and closes when the second has arrived.
func closesKeptAlive(t *testing.T, dropped *atomic.Int64) string {
	return rawBackend(t, func(_ int, c *net.TCPConn) {
		if _, err := readRequest(c); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if _, err := readRequest(c); err == nil {
			dropped.Add(1)
		}
	})
}

func TestCaseB2KeepAliveRace(t *testing.T) {
	for _, tc := range []struct {
		method, body string
		ok           bool
	}{{"GET", "", true}, {"DELETE", "", true}, {"PUT", "small", true}, {"POST", "", false}, {"POST", "small", false}} {
		t.Run(tc.method+tc.body, func(t *testing.T) {
			var dropped atomic.Int64
			f := openHTTP(t)
			f.set(closesKeptAlive(t, &dropped)) // the only one: it must be tried again
			get(t, f.url("/"))
			var got reply
			for range 20 { // until the connection was kept before the next request came
				if got = do(t, request(t, tc.method, f.url("/"), strings.NewReader(tc.body))); dropped.Load() > 0 {
					break
				}
			}
			if tc.ok && (got.StatusCode != http.StatusOK || got.body != "ok") {
				t.Errorf("got %d %q; want it served on another connection", got.StatusCode, got.body)
			}
			if !tc.ok && got.StatusCode != http.StatusBadGateway {
				t.Errorf("got %d %q; want 502", got.StatusCode, got.body)
			}
			if dropped.Load() != 1 {
				t.Errorf("dropped %d requests; want 1, or nothing was tested", dropped.Load())
			}
		})
	}
}

// POSTs of every kind, through backends that break off at random: none arrives
// twice.
func TestCaseB3PostAtMostOnce(t *testing.T) {
	var mu sync.Mutex
	times := map[string]int{}
	flaky := func(n int, c *net.TCPConn) {
		for i := 0; ; i++ {
			r, err := readRequest(c)
			if err != nil {
				return
			}
			mu.Lock()
			times[r.Header.Get("Id")]++
			mu.Unlock()
			if (n+i)%3 == 1 {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
	f := openHTTP(t)
	f.set(rawBackend(t, flaky), rawBackend(t, flaky), deadAddr(t))
	client := newClient(t)
	var wg sync.WaitGroup
	var served atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				body := strings.NewReader(strings.Repeat("x", i*40))
				req := request(t, http.MethodPost, f.url("/"), body)
				req.Header.Set("Id", fmt.Sprint(g, "-", i))
				req.Header.Set("Idempotency-Key", "k")
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("POST: %v", err)
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					served.Add(1)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for id, n := range times {
		if n > 1 {
			t.Errorf("request %s arrived %d times", id, n)
		}
	}
	if served.Load() == 0 || served.Load() == 400 {
		t.Errorf("%d of 400 served: nothing was tested", served.Load())
	}
}

// otherBudgie answers like another Budgie proxy that could not serve.
func otherBudgie(status int, reason string, requests *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Proxy-Status", "budgie; error="+reason)
		_, port, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
		w.Header().Set("Budgie-Hop", r.RemoteAddr+">"+port)
		http.Error(w, "inner", status)
	}
}

func TestFailureOfAnotherBudgie(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	tests := []struct {
		status       int
		reason       string
		method, body string
		again        bool
		wantCode     int
		wantReason   string
	}{
		{503, "connection_refused", "GET", "", true, 200, ""},
		{503, "connection_refused", "POST", "small", true, 200, ""},
		{503, "destination_unavailable", "POST", "", true, 200, ""},
		{503, "destination_unavailable", "POST", large, false, 503, "destination_unavailable"},
		{502, "connection_terminated", "GET", "", true, 200, ""},
		{502, "connection_terminated", "POST", "small", false, 502, "connection_terminated"},
		{502, "http_protocol_error", "POST", "", false, 502, "http_protocol_error"},
		{504, "http_response_timeout", "GET", "", false, 504, "http_response_timeout"},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprint(tc.status, tc.reason, tc.method, len(tc.body)), func(t *testing.T) {
			var inner, good atomic.Int64
			f := openHTTP(t)
			f.set(httpBackend(t, otherBudgie(tc.status, tc.reason, &inner)),
				httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
					good.Add(1)
					body, _ := io.ReadAll(r.Body)
					w.Write(body)
				}))
			got := do(t, request(t, tc.method, f.url("/"), bytes.NewReader([]byte(tc.body))))
			if got.StatusCode != tc.wantCode || inner.Load() != 1 || (good.Load() == 1) != tc.again {
				t.Fatalf("got %d, %d and %d requests", got.StatusCode, inner.Load(), good.Load())
			}
			if tc.again && got.body != tc.body {
				t.Errorf("the second backend saw %q; want %q", got.body, tc.body)
			}
			status := got.Header.Get("Proxy-Status")
			if tc.wantReason == "" && status != "" || tc.wantReason != "" && status != "budgie; error="+tc.wantReason {
				t.Errorf("Proxy-Status = %q", status)
			}
			if s := f.Status()[0]; s.Failures != 1 || s.Requests != 0 {
				t.Errorf("status = %+v; want the failure counted", s)
			}
		})
	}
}

// A failure that comes over a kept-alive connection is the proxy's answer, not
// the end of a stale connection.
func TestFailureOfAnotherBudgieKeptAlive(t *testing.T) {
	var inner atomic.Int64
	var failing atomic.Bool
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if failing.Load() {
			otherBudgie(502, "connection_terminated", &inner)(w, r)
		}
	}))
	get(t, f.url("/"))
	eventually(t, "the connection is idle", func() bool { return f.Status()[0].Active == 0 })
	failing.Store(true)
	if got := get(t, f.url("/")); got.StatusCode != http.StatusBadGateway || inner.Load() != 1 {
		t.Errorf("got %d after %d requests; want 502 after one", got.StatusCode, inner.Load())
	}
}

// The failure of an inner frontend passes through an outer one with its meaning.
func TestTwoInARow(t *testing.T) {
	inner, outer := openHTTP(t), openHTTP(t)
	outer.set(inner.Addr().String())
	got := get(t, outer.url("/"))
	if got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") != "1" ||
		got.Header.Get("Proxy-Status") != "budgie; error=destination_unavailable" || !strings.Contains(got.body, `"web"`) {
		t.Errorf("got %d %v %q", got.StatusCode, got.Header, got.body)
	}
	inner.set(httpBackend(t, says("hello")))
	if got := get(t, outer.url("/")); got.StatusCode != http.StatusOK || got.body != "hello" {
		t.Errorf("got %d %q; want the only backend tried although it failed before", got.StatusCode, got.body)
	}
}

func TestForeignProxyStatus(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Proxy-Status", "cdn; received-status=500, budgie; error=connection_refused")
		w.WriteHeader(http.StatusTeapot)
	}))
	got := get(t, f.url("/"))
	if got.StatusCode != http.StatusTeapot || got.Header.Get("Proxy-Status") != "cdn; received-status=500" {
		t.Errorf("got %d, Proxy-Status %q", got.StatusCode, got.Header.Get("Proxy-Status"))
	}
}

func TestNoBackendAnswer(t *testing.T) {
	f := openHTTP(t)
	for _, tc := range []struct {
		addrs  []string
		reason string
	}{{nil, "destination_unavailable"}, {[]string{deadAddr(t), deadAddr(t)}, "connection_refused"}} {
		f.set(tc.addrs...)
		got := get(t, f.url("/"))
		if got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") != "1" ||
			got.Header.Get("Proxy-Status") != "budgie; error="+tc.reason || !strings.Contains(got.body, `"web"`) {
			t.Errorf("with %d backends: %d %v %q", len(tc.addrs), got.StatusCode, got.Header, got.body)
		}
	}
}
