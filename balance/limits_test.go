package balance_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// One connection too many is reset, the others live, and room that becomes free
// is used.
func TestConnectionLimits(t *testing.T) {
	for name, limits := range map[string]balance.Limits{
		"of the frontend": {Connections: 2},
		"of a client":     {ClientConnections: 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, balance.Config{Mode: bunfile.ModeTCP, Limits: limits})
			f.set(rawBackend(t, func(_ int, c *net.TCPConn) { io.Copy(c, c) }))
			echoes := func(c *net.TCPConn) bool {
				if c == nil {
					return false
				}
				io.WriteString(c, "x")
				_, err := io.ReadFull(c, make([]byte, 1))
				return err == nil
			}
			first, second := dial(t, f), dial(t, f)
			if !echoes(first) || !echoes(second) {
				t.Fatal("a connection within the limit is not served")
			}
			if echoes(dialOrReset(t, f)) {
				t.Error("a connection beyond the limit is served")
			}
			if !f.log.has("level=WARN", "connection limit", "client=127.0.0.1") {
				t.Errorf("no line tells of it:\n%s", f.log)
			}
			if !echoes(first) {
				t.Error("a connection within the limit was disturbed")
			}
			second.Close()
			eventually(t, "room for another one", func() bool { return echoes(dialOrReset(t, f)) })
		})
	}
}

// A body beyond the limit is answered with 413, whether or not its length was
// told, and no backend is blamed.
func TestBodyLimit(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Limits: balance.Limits{Body: 8}})
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	for name, tc := range map[string]struct {
		body   io.Reader
		status int
	}{
		"within":           {strings.NewReader("12345678"), 200},
		"beyond":           {strings.NewReader("123456789"), 413},
		"beyond, streamed": {io.MultiReader(strings.NewReader("123456789")), 413},
	} {
		got := do(t, request(t, "POST", f.url("/"), tc.body))
		if got.StatusCode != tc.status || tc.status == 413 && got.body != "the body of the request has more than 8 bytes\n" {
			t.Errorf("%s: status %d, %q; want %d", name, got.StatusCode, got.body, tc.status)
		}
	}
	if s := f.Status()[0]; s.Failures != 0 {
		t.Errorf("the backend is blamed: %+v", s)
	}
}

func TestInvalidLimits(t *testing.T) {
	for _, l := range []balance.Limits{{Connections: -1}, {ClientConnections: -1}, {Body: -1}} {
		cfg := balance.Config{Mode: bunfile.ModeHTTP, Listener: listen(t), Limits: l}
		if _, err := balance.New().Listen(context.Background(), cfg); !errors.Is(err, balance.ErrInvalid) {
			t.Errorf("%+v: err = %v, want ErrInvalid", l, err)
		}
	}
}

// What a full backend cannot take is shed with 503 and Retry-After, and reaches
// it when there is room again.
func TestShedding(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Limits: balance.Limits{BackendRequests: 1}})
	inside, release := make(chan bool, 1), make(chan bool)
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			inside <- true
			<-release
		}
	}))
	done := make(chan int, 1)
	slow, c := request(t, "GET", f.url("/slow"), nil), newClient(t)
	go func() {
		resp, err := c.Do(slow)
		if err != nil {
			done <- 0
			return
		}
		resp.Body.Close()
		done <- resp.StatusCode
	}()
	receive(t, inside)
	got := get(t, f.url("/"))
	close(release)
	if got.StatusCode != 503 || got.Header.Get("Retry-After") == "" ||
		got.Header.Get("Proxy-Status") != "budgie; error=connection_limit_reached" {
		t.Errorf("shed: %d, %v", got.StatusCode, got.Header)
	}
	if s := f.Status()[0]; s.Shed != 1 {
		t.Errorf("status %+v, want 1 shed", s)
	}
	if status := receive(t, done); status != 200 {
		t.Errorf("the slow request: %d", status)
	}
	eventually(t, "room again", func() bool { return get(t, f.url("/")).StatusCode == 200 })
}
