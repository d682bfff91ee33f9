package balance_test

import (
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
	"golang.org/x/net/http2"
)

// goAway reads until the notice of a drain and returns the last stream it names.
func (h *rawH2) goAway(t testing.TB) (last uint32) {
	t.Helper()
	h.until(t, "GOAWAY", func(fr http2.Frame) bool {
		g, ok := fr.(*http2.GoAwayFrame)
		if ok {
			last = g.LastStreamID
			if g.ErrCode != http2.ErrCodeNo {
				t.Errorf("GOAWAY of %v", g.ErrCode)
			}
		}
		return ok
	})
	return last
}

// A drain gives notice, serves what is on its way all the same, and closes the
// connection when nothing is.
func TestH2ShutdownGivesNotice(t *testing.T) {
	f := openHTTP(t)
	goOn := make(chan struct{})
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			<-goOn
		}
	}))
	h, idle, silent := dialH2(t, f), dialH2(t, f), dial(t, f)
	idle.ask(t, 1, true)
	if got := idle.status(t, 1); got != "200" {
		t.Fatalf("got %s", got)
	}
	io.WriteString(silent, http2.ClientPreface[:18])
	h.ask(t, 1, true, ":path", "/late")
	eventually(t, "a request under way", func() bool { return f.Status()[0].Active == 1 })
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	if last := h.goAway(t); last != 1<<31-1 {
		t.Errorf("GOAWAY names stream %d; want that it refuses none", last)
	}
	h.ask(t, 3, true)
	if got := h.status(t, 3); got != "200" {
		t.Errorf("a request that crossed the notice: %s", got)
	}
	idle.goAway(t)
	if err := idle.ended(); err != nil {
		t.Errorf("the idle connection: %v; want its end", err)
	}
	close(goOn)
	if got := h.status(t, 1); got != "200" {
		t.Errorf("the request under way: %s", got)
	}
	if err := h.ended(); err != nil {
		t.Errorf("the connection: %v; want its end", err)
	}
	silent.Close()
	if err := receive(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// Who goes on opening streams is refused in the end, and what does not end is
// cut off at the deadline.
func TestH2ShutdownHasAnEnd(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			<-r.Context().Done()
		}
	}))
	stubborn, endless := dialH2(t, f), dialH2(t, f)
	endless.ask(t, 1, true, ":path", "/endless")
	eventually(t, "a request under way", func() bool { return f.Status()[0].Active == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(ctx) }()
	stubborn.goAway(t)
	served, refused := 0, false
	for stream := uint32(1); !refused; stream += 2 {
		stubborn.ask(t, stream, true)
		stubborn.until(t, "answer or refusal", func(fr http2.Frame) bool {
			switch fr := fr.(type) {
			case *http2.MetaHeadersFrame:
				served++
				return true
			case *http2.GoAwayFrame:
				refused = fr.LastStreamID < 1<<31-1
				return true
			}
			return false
		})
	}
	if served == 0 {
		t.Error("nothing was served after the notice")
	}
	cancel()
	if err := receive(t, done); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v; want the context's error", err)
	}
	if err := endless.ended(); err == nil {
		t.Error("the endless request ended as if it were complete")
	}
}

// A shutdown under load loses no request of HTTP/2 clients.
func TestH2ShutdownUnderLoadLosesNothing(t *testing.T) {
	backend := httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Write(body)
	})
	for round := range 3 {
		ln := &countingListener{TCPListener: listen(t).(*net.TCPListener), accepted: map[string]bool{}}
		f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: ln})
		f.set(backend)
		var served atomic.Int64
		lost := make(chan error, 16)
		callers := []*h2Caller{newH2Caller(t, ln, &served), newH2Caller(t, ln, &served)}
		for i := range cap(lost) {
			go func() { lost <- callers[i%2].run(f.url("/"), strings.Repeat("x", i*100)) }()
		}
		eventually(t, "some load", func() bool { return served.Load() > 200 })
		if err := f.Shutdown(t.Context()); err != nil {
			t.Fatalf("Shutdown = %v", err)
		}
		for range cap(lost) {
			if err := receive(t, lost); err != nil {
				t.Errorf("round %d: lost %v", round, err)
			}
		}
	}
}

// h2Caller sends requests, all on one connection as long as that takes them.
type h2Caller struct {
	*http.Client
	ln     *countingListener
	served *atomic.Int64
	last   atomic.Value // the address of the connection dialled last
}

func newH2Caller(t *testing.T, ln *countingListener, served *atomic.Int64) *h2Caller {
	c := &h2Caller{Client: newH2Client(t), ln: ln, served: served}
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err == nil {
			c.last.Store(conn.LocalAddr().String())
		}
		return conn, err
	}
	return c
}

// run sends requests until no connection is accepted, and returns an error for one
// that was lost otherwise.
func (c *h2Caller) run(url, body string) error {
	for {
		resp, err := c.Post(url, "text/plain", strings.NewReader(body))
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" || err != nil && !c.ln.has(c.last.Load().(string)) {
			return nil // it stopped accepting
		}
		if err != nil {
			return err
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || string(got) != body {
			return fmt.Errorf("status %d, %d bytes of %d, error %v", resp.StatusCode, len(got), len(body), err)
		}
		c.served.Add(1)
	}
}

// A connection that becomes one of HTTP/2 during the drain is served, and given
// notice.
func TestH2ShutdownServesBegunPreface(t *testing.T) {
	f := openHTTP(t, balance.WithIdleQuiet(50*time.Millisecond))
	f.set(httpBackend(t, says("served")))
	c := dial(t, f)
	io.WriteString(c, http2.ClientPreface[:10])
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	eventually(t, "the listener is closed", func() bool { return refuses(f) })
	io.WriteString(c, http2.ClientPreface[10:])
	h := newRawH2(c)
	h.WriteSettings()
	h.ask(t, 1, true)
	if got := h.status(t, 1); got != "200" {
		t.Errorf("got %s", got)
	}
	if err := h.ended(); err != nil {
		t.Errorf("%v; want the end of the connection", err)
	}
	if err := receive(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}
