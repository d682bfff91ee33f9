package balance_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// countingListener knows the peers of the connections it accepted.
type countingListener struct {
	*net.TCPListener
	mu       sync.Mutex
	accepted map[string]bool
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err == nil {
		l.mu.Lock()
		l.accepted[c.RemoteAddr().String()] = true
		l.mu.Unlock()
	}
	return c, err
}

func (l *countingListener) has(addr string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted[addr]
}

// caller sends requests on one connection at a time and notes those lost.
type caller struct {
	ln        *countingListener
	body      string
	keepAlive bool
	served    *atomic.Int64
}

// run sends requests until a connection is refused. It returns an error for a
// request that was lost although its connection had been accepted.
func (c *caller) run() error {
	for {
		conn, err := net.Dial("tcp", c.ln.Addr().String())
		if err != nil {
			return nil // it stopped accepting
		}
		err = c.talk(conn)
		conn.Close()
		if err != nil && c.ln.has(conn.LocalAddr().String()) {
			return err
		}
	}
}

func (c *caller) talk(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n%s", len(c.body), c.body); err != nil {
			return fmt.Errorf("request %d of a connection: %w", i, err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Errorf("response %d of a connection: %w", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || string(body) != c.body {
			return fmt.Errorf("response %d of a connection: status %d, %d bytes of %d, error %v", i, resp.StatusCode, len(body), len(c.body), err)
		}
		c.served.Add(1)
		if !c.keepAlive || resp.Close {
			return nil
		}
	}
}

// A shutdown under load loses no request whose connection was accepted, be it a
// new connection or a kept-alive one.
func TestShutdownUnderLoadLosesNothing(t *testing.T) {
	backend := httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Write(body)
	})
	for round := range 5 {
		ln := &countingListener{TCPListener: listen(t).(*net.TCPListener), accepted: map[string]bool{}}
		f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: ln})
		f.set(backend)
		var served atomic.Int64
		lost := make(chan error, 16)
		for i := range cap(lost) {
			c := &caller{ln: ln, body: strings.Repeat("x", i*100), keepAlive: i%2 == 0, served: &served}
			go func() { lost <- c.run() }()
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

// A request whose first bytes are here when the drain begins is served.
func TestShutdownServesBegunRequest(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, says("served")))
	c := dial(t, f)
	r := bufio.NewReader(c)
	for i := range 2 {
		io.WriteString(c, "GET / HTTP/1.1\r\nHo")
		var done chan error
		if i == 1 {
			// On a kept-alive connection, which http.Server calls idle until
			// the header is complete.
			done = make(chan error, 1)
			go func() { done <- f.Shutdown(context.Background()) }()
			eventually(t, "the listener is closed", func() bool { return refuses(f) })
		}
		io.WriteString(c, "st: web\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "served" || resp.Close != (i == 1) {
			t.Errorf("request %d: %q, %v, close %v", i, body, err, resp.Close)
		}
		if done != nil {
			if err := receive(t, done); err != nil {
				t.Errorf("Shutdown = %v", err)
			}
		}
	}
}

// refuses reports whether connections are refused. Before that, a frontend that
// begins to drain lets the first packets of newcomers unanswered for a moment.
func refuses(f *front) bool {
	c, err := net.DialTimeout("tcp", f.Addr().String(), 50*time.Millisecond)
	if err == nil {
		c.Close()
		return false
	}
	return !os.IsTimeout(err)
}

// Connections without a request do not hold a shutdown up.
func TestShutdownClosesQuietConnections(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, says("hello")))
	silent, idle := dial(t, f), dial(t, f)
	io.WriteString(idle, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
	r := bufio.NewReader(idle)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.Shutdown(ctx); err != nil {
		t.Fatalf("Shutdown = %v; want the quiet connections closed", err)
	}
	for name, c := range map[string]io.Reader{"silent": silent, "idle": r} {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the %s connection: %v; want its end", name, err)
		}
	}
}

// The response under way when the drain begins tells the client to go.
func TestShutdownAnnouncesClose(t *testing.T) {
	f := openHTTP(t)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	f.set(httpBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-goOn
		io.WriteString(w, "late")
	}))
	got := make(chan reply, 1)
	go func() { got <- get(t, f.url("/")) }()
	<-arrived
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	eventually(t, "the listener is closed", func() bool { return refuses(f) })
	close(goOn)
	if r := receive(t, got); r.body != "late" || !r.Close {
		t.Errorf("got %q, close %v", r.body, r.Close)
	}
	if err := receive(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// An upgraded connection goes on in a drain, and is cut off at its end.
func TestCaseB6ShutdownAndWebSockets(t *testing.T) {
	f := openHTTP(t)
	f.set(echoSocket(t))
	ends, stays := dialSocket(t, f), dialSocket(t, f)
	for _, c := range []error{echo(ends, "1"), echo(stays, "1")} {
		if c != nil {
			t.Fatal(c)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(ctx) }()
	eventually(t, "the listener is closed", func() bool { return refuses(f) })
	if err := errors.Join(echo(ends, "2"), echo(stays, "2")); err != nil {
		t.Errorf("during the drain: %v", err)
	}
	ends.Close()
	eventually(t, "the end of one", func() bool { return f.Status()[0].Active == 1 })
	cancel()
	if err := receive(t, done); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v; want the context's error", err)
	}
	if err := echo(stays, "3"); err == nil {
		t.Error("a connection lives on after the shutdown")
	}
	if s := f.Status()[0]; s.Active != 0 || s.Failures != 0 {
		t.Errorf("status = %+v", s)
	}
	if !f.log.has("level=WARN", "cut off") {
		t.Errorf("no line tells of the cut:\n%s", f.log)
	}
}

// A backend that leaves keeps its upgraded connections.
func TestCaseB5UpdateAndWebSockets(t *testing.T) {
	f := openHTTP(t)
	f.set(echoSocket(t))
	c := dialSocket(t, f)
	if err := echo(c, "before"); err != nil {
		t.Fatal(err)
	}
	f.Update(nil)
	if err := echo(c, "after"); err != nil {
		t.Errorf("after the backend left: %v", err)
	}
	if got := get(t, f.url("/")); got.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %d for a new request; want 503", got.StatusCode)
	}
	c.Close()
}

// Rolling replacement of every backend, over and over, costs no request of any
// kind.
func TestRollingUpdateLosesNothing(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, says("first")))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	client := newClient(t)
	for g := range 8 {
		wg.Go(func() {
			method := []string{http.MethodGet, http.MethodPost}[g%2]
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Do(request(t, method, f.url("/"), strings.NewReader("x")))
				if err != nil {
					t.Errorf("%s: %v", method, err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %d", method, resp.StatusCode)
				}
			}
		})
	}
	for range 6 {
		// A new frontend in front of a new backend, as a replica has it; the
		// old one drains once nothing new is sent there.
		inner := openHTTP(t)
		inner.set(httpBackend(t, says("next")))
		f.set(inner.Addr().String())
		eventually(t, "traffic at the new one", func() bool { return inner.Status()[0].Requests > 3 })
		f.set(httpBackend(t, says("plain")))
		eventually(t, "traffic at the plain one", func() bool { return f.Status()[0].Requests > 3 })
		if err := inner.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	}
	close(stop)
	wg.Wait()
}

// A client that does not know of the drain yet may use its idle connection for
// a moment more.
func TestShutdownServesIdleConnection(t *testing.T) {
	f := openHTTP(t, balance.WithIdleQuiet(patience/2))
	f.set(httpBackend(t, says("served")))
	c := dial(t, f)
	r := bufio.NewReader(c)
	var done chan error
	for _, draining := range []bool{false, true} {
		if draining {
			done = make(chan error, 1)
			go func() { done <- f.Shutdown(context.Background()) }()
			eventually(t, "the listener is closed", func() bool { return refuses(f) })
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("draining %v: %v", draining, err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "served" || resp.Close != draining {
			t.Errorf("draining %v: %q, %v, close %v", draining, body, err, resp.Close)
		}
	}
	if err := receive(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// gatedListener accepts only after its gate has been opened.
type gatedListener struct {
	*net.TCPListener
	waiting chan struct{}
	gate    chan struct{}
	once    sync.Once
}

func (l *gatedListener) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.waiting) })
	<-l.gate
	return l.TCPListener.Accept()
}

// A connection that the kernel has accepted before the drain is served, though
// the frontend takes it only afterwards.
func TestShutdownServesBacklog(t *testing.T) {
	ln := &gatedListener{TCPListener: listen(t).(*net.TCPListener), waiting: make(chan struct{}), gate: make(chan struct{})}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: ln})
	backend := httpBackend(t, says("served"))
	f.set(backend)
	<-ln.waiting
	c := dial(t, f)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	eventually(t, "updates have no effect, since the drain has begun", func() bool {
		f.set(backend, backend+"0")
		if len(f.Status()) == 1 {
			return true
		}
		f.set(backend)
		return len(f.Status()) == 2
	})
	f.set(backend)
	close(ln.gate)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "served" {
		t.Errorf("got %q, %v", body, err)
	}
	if err := receive(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}
