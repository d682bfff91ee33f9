package balance_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// gateway starts a server that counts what it is asked, asks the service behind a
// frontend in turn, and passes the answer on as reverse proxies do.
func gateway(t *testing.T, to *front, protocols *http.Protocols, asked *atomic.Int32) string {
	t.Helper()
	target, err := url.Parse(to.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	rp := httputil.NewSingleHostReverseProxy(target)
	tr := &http.Transport{Protocols: protocols}
	rp.Transport = tr
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		rp.ServeHTTP(w, r)
	}))
	s.Config.Protocols = protocols
	s.Start()
	t.Cleanup(func() {
		s.Close()
		tr.CloseIdleConnections()
	})
	return s.Listener.Addr().String()
}

// What a backend passes on of the proxy of another service does not mean that the backend
// has not received the request: it is made once, and nobody is out of rotation for it.
func TestFailurePassedOnByABackend(t *testing.T) {
	for _, how := range []struct {
		name string
		over func(*http.Protocols)
		ask  func(t *testing.T, outer *front)
	}{
		{"HTTP/1.1", func(p *http.Protocols) { p.SetHTTP1(true) }, func(t *testing.T, outer *front) {
			got := do(t, request(t, "POST", outer.url("/order"), strings.NewReader("one")))
			if got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Proxy-Status")+got.Header.Get("Budgie-Hop") != "" {
				t.Errorf("got %d, %v", got.StatusCode, got.Header)
			}
		}},
		{"gRPC", func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, func(t *testing.T, outer *front) {
			if _, err := oneUnary(within(t), grpcClient(t, outer)); status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
		}},
	} {
		t.Run(how.name, func(t *testing.T) {
			inner, outer := openHTTP(t), openHTTP(t)
			p := new(http.Protocols)
			how.over(p)
			var asked atomic.Int32
			outer.set(gateway(t, inner, p, &asked), gateway(t, inner, p, &asked))
			how.ask(t, outer)
			if n := asked.Load(); n != 1 {
				t.Errorf("the request was made %d times", n)
			}
			for _, s := range outer.Status() {
				if !s.Healthy || s.Failures > 0 {
					t.Errorf("%s: %+v", s.ID, s)
				}
			}
		})
	}
}

// A server that copies all that it is told, the field that names the connection too, does
// not speak for itself.
func TestFailureCopiedByABackend(t *testing.T) {
	inner, outer := openHTTP(t), openHTTP(t)
	var asked atomic.Int32
	copies := func() string {
		return httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			got := get(t, inner.url("/"))
			for name, values := range got.Header {
				w.Header()[name] = values
			}
			w.WriteHeader(got.StatusCode)
			io.WriteString(w, got.body)
		})
	}
	outer.set(copies(), copies())
	if got := do(t, request(t, "POST", outer.url("/"), nil)); got.StatusCode != http.StatusServiceUnavailable || asked.Load() != 1 {
		t.Errorf("got %d after %d requests", got.StatusCode, asked.Load())
	}
}
