package balance_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"golang.org/x/net/http2"
)

// certified returns a server's configuration and that of clients who trust it.
func certified(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: roots, ServerName: "example.com"}
}

// tlsClient speaks one version of HTTP over TLS.
func tlsClient(t *testing.T, cfg *tls.Config, h2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetHTTP2(h2)
	tr := &http.Transport{TLSClientConfig: cfg.Clone(), Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// Over TLS clients get the version that they negotiate, on either way to have
// TLS in front.
func TestTLS(t *testing.T) {
	server, client := certified(t)
	offering := server.Clone()
	offering.NextProtos = []string{"h2", "http/1.1"}
	for name, cfg := range map[string]balance.Config{
		"of the frontend": {Mode: bunfile.ModeHTTP, Listener: listen(t), TLS: server},
		"of the listener": {Mode: bunfile.ModeHTTP, Listener: tls.NewListener(listen(t), offering)},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, cfg)
			f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %s %s", r.Proto, r.Header.Get("Forwarded"), body)
			}))
			for _, h2 := range []bool{true, false} {
				c := tlsClient(t, client, h2)
				for range 3 {
					resp, err := c.Do(request(t, "POST", "https://"+f.Addr().String()+"/", strings.NewReader("said")))
					if err != nil {
						t.Fatalf("HTTP/2 %v: %v\n%s", h2, err, f.log)
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					want := fmt.Sprintf(`HTTP/1.1 for=127.0.0.1;host="%s";proto=https said`, f.Addr())
					if err != nil || string(body) != want || (resp.ProtoMajor == 2) != h2 {
						t.Errorf("%s: got %q, %v; want %q", resp.Proto, body, err, want)
					}
				}
			}
		})
	}
}

// A drain gives notice over TLS as it does without.
func TestTLSShutdown(t *testing.T) {
	server, client := certified(t)
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, TLS: server})
	goOn := make(chan struct{})
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			<-goOn
		}
	}))
	resp, err := tlsClient(t, client, false).Get("https://" + f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close() // and its connection rests
	cfg := client.Clone()
	cfg.NextProtos = []string{"h2"}
	conn := tls.Client(dial(t, f), cfg)
	io.WriteString(conn, http2.ClientPreface)
	h := newRawH2(conn)
	h.WriteSettings()
	h.ask(t, 1, true, ":path", "/late")
	eventually(t, "a request under way", func() bool { return f.Status()[0].Active == 1 })
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	h.goAway(t)
	h.ask(t, 3, true)
	for _, stream := range []uint32{3, 1} {
		if got := h.status(t, stream); got != "200" {
			t.Errorf("stream %d: %s", stream, got)
		}
		if stream == 3 {
			close(goOn)
		}
	}
	if err := receive(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// What is no TLS is told so, and in the log once for many.
func TestTLSFailures(t *testing.T) {
	server, _ := certified(t)
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, TLS: server})
	for range 10 {
		if got := get(t, f.url("/")); got.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP got %d", got.StatusCode)
		}
	}
	c := dial(t, f)
	io.WriteString(c, http2.ClientPreface)
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("HTTP/2 without TLS: %v", err)
	}
	eventually(t, "a line", func() bool { return f.log.has("level=WARN", "connections of clients failed") })
	if n := strings.Count(f.log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d lines:\n%s", n, f.log)
	}
}

func TestInvalidTLS(t *testing.T) {
	server, _ := certified(t)
	for _, cfg := range []balance.Config{
		{Mode: bunfile.ModeTCP, Listener: listen(t), TLS: server},
		{Mode: bunfile.ModeHTTP, Listener: listen(t), TLS: &tls.Config{}},
	} {
		if _, err := balance.New().Listen(context.Background(), cfg); !errors.Is(err, balance.ErrInvalid) {
			t.Errorf("%s: err = %v, want ErrInvalid", cfg.Mode, err)
		}
	}
}
