package balancetest

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

func testNoBackendHTTP(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, "")
	if code, body := get(t, f, "/"); code != http.StatusServiceUnavailable || !strings.Contains(body, "web") {
		t.Errorf("got %d %q without backends; want 503 that names the service", code, body)
	}
}

func testNoBackendTCP(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeTCP, "")
	c, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		return // turned away even earlier
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("read %d bytes without backends; want the connection closed", n)
	}
}

func testHTTP(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, "")
	h := newHTTP(t, "a")
	f.Update([]balance.Backend{h.backend("a")})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
		"http://"+f.Addr().String()+"/echo?q=1", strings.NewReader("the body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "web.example"
	resp, err := newClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	want := "PUT web.example /echo?q=1 127.0.0.1 the body"
	if err != nil || string(body) != want {
		t.Errorf("the backend saw %q, %v; want %q", body, err, want)
	}
}

func testTCP(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeTCP, "")
	f.Update([]balance.Backend{newEcho(t)})
	c := dial(t, f)
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	// The backend answers after the client's end of stream, or never.
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello, and goodbye" {
		t.Errorf("got %q, %v", got, err)
	}
	waitStatus(t, f, func(s []balance.BackendStatus) bool { return s[0].Requests == 1 && s[0].Active == 0 })
}

func testSpread(t *testing.T, b Balancer) {
	for _, alg := range append(bunfile.Algorithms(), "") {
		t.Run("algorithm="+string(alg), func(t *testing.T) {
			f := front(t, b, bunfile.ModeHTTP, alg)
			f.Update([]balance.Backend{newHTTP(t, "a").backend("a"), newHTTP(t, "b").backend("b")})
			served := map[string]int{}
			for range 10 {
				_, body := get(t, f, "/")
				served[body]++
				settled(t, f)
			}
			if served["a"]+served["b"] != 10 {
				t.Fatalf("served %v; want 10", served)
			}
			if alg == bunfile.ConsistentHash || alg == bunfile.PowerOfTwo {
				return // one client has one backend; a slow backend has none
			}
			if served["a"] == 0 || served["b"] == 0 || served["a"]+served["b"] != 10 {
				t.Errorf("served %v; want both to take part", served)
			}
		})
	}
}

func testBackup(t *testing.T, b Balancer) {
	for _, alg := range bunfile.Algorithms() {
		t.Run("algorithm="+string(alg), func(t *testing.T) {
			f := front(t, b, bunfile.ModeHTTP, alg)
			first, backup := newHTTP(t, "a").backend("a"), newHTTP(t, "b").backend("b")
			serves := func(want string) {
				t.Helper()
				for range 4 {
					if _, body := get(t, f, "/"); body != want {
						t.Errorf("%q served, want %q", body, want)
					}
					settled(t, f)
				}
			}
			backup.Backup = true
			f.Update([]balance.Backend{backup, first})
			serves("a")
			first.Backup, backup.Backup = true, false
			f.Update([]balance.Backend{backup, first})
			serves("b")
			f.Update([]balance.Backend{first})
			serves("a")
		})
	}
}

func testStatus(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, "")
	if s := f.Status(); len(s) != 0 {
		t.Errorf("status = %+v without backends", s)
	}
	h := newHTTP(t, "h")
	b2 := newHTTP(t, "2").backend("b")
	f.Update([]balance.Backend{b2, h.backend("a"), b2})
	s := f.Status()
	if len(s) != 2 || s[0].ID != "a" || s[1].ID != "b" {
		t.Fatalf("status = %+v; want a and b once each, sorted", s)
	}
	if !s[0].Healthy || !s[1].Healthy {
		t.Errorf("status = %+v; want new backends to be trusted", s)
	}
	f.Update([]balance.Backend{h.backend("a")})
	held := h.hold(t, f)
	if s := f.Status(); s[0].Active != 1 || s[0].Requests != 1 {
		t.Errorf("status = %+v during a request", s[0])
	}
	h.letGo()
	<-held
	if s := settled(t, f); s[0].Requests != 1 || s[0].Failures != 0 || s[0].LastError != nil {
		t.Errorf("status = %+v after a request", s[0])
	}
}

// backendHTTP is a server that says its name, and holds requests to /hold.
type backendHTTP struct {
	server   *httptest.Server
	requests atomic.Uint64
	arrived  chan struct{}
	release  chan struct{}
	letGo    func()
}

func newHTTP(t *testing.T, name string) *backendHTTP {
	h := &backendHTTP{arrived: make(chan struct{}, 1), release: make(chan struct{})}
	h.letGo = sync.OnceFunc(func() { close(h.release) })
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		switch r.URL.Path {
		case "/hold":
			h.arrived <- struct{}{}
			select {
			case <-h.release:
			case <-r.Context().Done():
			}
		case "/echo":
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Forwarded-For"), body)
			return
		}
		io.WriteString(w, name)
	}))
	t.Cleanup(func() {
		h.letGo()
		h.server.Close()
	})
	return h
}

func (h *backendHTTP) backend(id string) balance.Backend {
	return balance.Backend{ID: id, Addr: h.server.Listener.Addr().String()}
}

type answer struct {
	body string
	err  error
}

// hold sends a request through f that the backend keeps until letGo, and returns
// when it is there.
func (h *backendHTTP) hold(t *testing.T, f balance.Frontend) <-chan answer {
	t.Helper()
	client := newClient(t)
	held := make(chan answer, 1)
	go func() {
		_, body, err := client.get("http://" + f.Addr().String() + "/hold")
		held <- answer{body, err}
	}()
	select {
	case <-h.arrived:
	case got := <-held:
		t.Fatalf("the request ended before it arrived: %q, %v", got.body, got.err)
	case <-time.After(patience):
		t.Fatal("the request did not arrive at the backend")
	}
	return held
}

// newEcho returns a TCP server that answers when its client has said everything.
func newEcho(t *testing.T) balance.Backend {
	ln := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				said, err := io.ReadAll(bufio.NewReader(c))
				if err == nil {
					fmt.Fprintf(c, "%s, and goodbye", said)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return balance.Backend{ID: "echo", Addr: ln.Addr().String()}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func front(t *testing.T, b Balancer, mode bunfile.BalanceMode, alg bunfile.Algorithm) balance.Frontend {
	t.Helper()
	f, err := b.Listen(t.Context(), balance.Config{Name: "web", Listener: listen(t), Mode: mode, Algorithm: alg})
	if err != nil {
		t.Fatal(err)
	}
	shutdownLater(t, f)
	return f
}

func shutdownLater(t *testing.T, f balance.Frontend) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

type client struct{ *http.Client }

func newClient(t *testing.T) client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return client{&http.Client{Transport: tr, Timeout: patience}}
}

func (c client) get(url string) (int, string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func get(t *testing.T, f balance.Frontend, path string) (int, string) {
	t.Helper()
	c := newClient(t)
	defer c.CloseIdleConnections()
	code, body, err := c.get("http://" + f.Addr().String() + path)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return code, body
}

func dial(t *testing.T, f balance.Frontend) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// refused waits until the frontend refuses connections. Before that it may, for a
// moment, leave them unanswered.
func refused(t *testing.T, f balance.Frontend) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		c, err := net.DialTimeout("tcp", f.Addr().String(), 50*time.Millisecond)
		switch {
		case err == nil:
			c.Close()
		case !isTimeout(err):
			return
		}
	}
	t.Fatal("the frontend still takes connections")
}

// waitStatus waits until the status is as wanted and returns it.
func waitStatus(t *testing.T, f balance.Frontend, ok func([]balance.BackendStatus) bool) []balance.BackendStatus {
	t.Helper()
	var s []balance.BackendStatus
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if s = f.Status(); ok(s) {
			return s
		}
	}
	t.Fatalf("status remains %+v", s)
	return nil
}

// settled waits until nothing is under way; counts follow a response, they do
// not precede it.
func settled(t *testing.T, f balance.Frontend) []balance.BackendStatus {
	t.Helper()
	return waitStatus(t, f, func(s []balance.BackendStatus) bool {
		return !slices.ContainsFunc(s, func(b balance.BackendStatus) bool { return b.Active > 0 })
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func byID(a, b balance.BackendStatus) int { return cmp.Compare(a.ID, b.ID) }

// wait receives a value that has to come.
func wait[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatal("nothing came in time")
	}
	return v
}
