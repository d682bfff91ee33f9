package balance_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// A backend that leaves is rid of the connections to it: of those that are kept
// at once, of one with a request under way when that has been answered. It may be
// waiting for that.
func TestConnectionsToOneThatLeft(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	closed := make(chan net.Conn, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-leave
		}
		io.WriteString(w, "leaving")
	}))
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- c
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	answer := sync.OnceFunc(func() { close(leave) })
	t.Cleanup(answer)
	stays := httpBackend(t, says("stays"))
	f := openHTTP(t)
	f.set(s.Listener.Addr().String())
	gone := func(what string) {
		t.Helper()
		select {
		case <-closed:
		case <-time.After(3 * time.Second): // after 4 s it is closed in any case
			t.Fatalf("the connection %s is kept", what)
		}
	}

	slow := make(chan string, 1)
	go func() {
		resp, err := http.Get(f.url("/slow"))
		if err != nil {
			slow <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		slow <- string(body)
	}()
	<-entered
	if got := fetch(t, f.url("/")); got != "leaving" {
		t.Fatalf("got %q", got)
	}
	f.set(stays)
	gone("without a request")
	if got := fetch(t, f.url("/")); got != "stays" {
		t.Errorf("got %q", got)
	}
	answer()
	if got := <-slow; got != "leaving" {
		t.Errorf("the request under way got %q", got)
	}
	gone("with a request")
	http.DefaultClient.CloseIdleConnections()
}

// fetch returns what a GET is answered.
func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
