package balance_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// recorder is an observer that remembers. All methods may be called concurrently.
type recorder struct {
	mu      sync.Mutex
	ended   []balance.Exchange
	changes []string
	events  []string
}

func (r *recorder) Opened(s *balance.Source) { r.event("opened " + s.Name) }
func (r *recorder) Closed(s *balance.Source) { r.event("closed " + s.Name) }

func (r *recorder) event(e string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) Ended(s *balance.Source, e balance.Exchange) {
	s.Snapshot() // has to be possible
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, e)
}

func (r *recorder) Changed(s *balance.Source, c balance.BackendChange) {
	s.Snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, fmt.Sprintf("%s %s %t", c.Backend.ID, c.Kind, c.Err != nil))
}

// next waits for the nth thing that ended, from 0.
func (r *recorder) next(t testing.TB, n int) balance.Exchange {
	t.Helper()
	var e balance.Exchange
	eventually(t, "the observer is told", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.ended) > n {
			e = r.ended[n]
		}
		return len(r.ended) > n
	})
	return e
}

// seen waits for all the changes.
func (r *recorder) seen(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the changes %q", want), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.Equal(r.changes, want)
	})
}

// answers serves what observers are to tell apart, by path.
func answers(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		io.Copy(w, r.Body)
	case "/error":
		http.Error(w, "no", http.StatusInternalServerError)
	case "/broken":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "/slow":
		<-r.Context().Done()
	default:
		io.WriteString(w, "hello")
	}
}

// Of each request an observer learns what became of it.
func TestObserverOfRequests(t *testing.T) {
	for _, tc := range []struct {
		name, method, path, body string
		backends                 []string // dead or alive
		status                   int
		received, sent           int64
		attempts                 int
		cause                    balance.Cause
	}{
		{"plain", "GET", "/", "", []string{"alive"}, 200, 0, 5, 1, ""},
		{"with a body", "POST", "/echo", "12345678", []string{"alive"}, 200, 8, 8, 1, ""},
		{"without an answer's body", "HEAD", "/", "", []string{"alive"}, 200, 0, 0, 1, ""},
		{"the backend's own error", "GET", "/error", "", []string{"alive"}, 500, 0, 3, 1, ""},
		{"retried", "POST", "/echo", "12345678", []string{"dead", "alive"}, 200, 8, 8, 2, ""},
		{"broken off", "GET", "/broken", "", []string{"alive"}, 200, 0, 4, 1, balance.CauseIncomplete},
		{"too slow", "GET", "/slow", "", []string{"alive"}, 504, 0, -1, 1, balance.CauseTimeout},
		{"no backend", "GET", "/", "", nil, 503, 0, -1, 0, balance.CauseUnavailable},
		{"none reached", "GET", "/", "", []string{"dead"}, 503, 0, -1, 1, balance.CauseRefused},
		{"too large", "POST", "/echo", strings.Repeat("x", 100), []string{"alive"}, 413, 0, -1, 0, balance.CauseRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &recorder{}
			f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: r, Limits: balance.Limits{Body: 64}},
				balance.WithResponseTimeout(200*time.Millisecond))
			var addrs []string
			for _, b := range tc.backends {
				addr := deadAddr(t)
				if b == "alive" {
					addr = httpBackend(t, answers)
				}
				addrs = append(addrs, addr)
			}
			f.set(addrs...)
			var body io.Reader
			if tc.body != "" {
				body = strings.NewReader(tc.body)
			}
			req := request(t, tc.method, f.url(tc.path+"?q"), body)
			req.Header.Set("User-Agent", "test")
			req.Header.Set("Referer", "http://there/")
			resp, err := newClient(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := io.Copy(io.Discard, resp.Body) // of the broken one an error
			resp.Body.Close()
			e := r.next(t, 0)
			if tc.sent < 0 {
				tc.sent = n // the proxy's own words
			}
			if e.Status != tc.status || e.Received != tc.received || e.Sent != tc.sent || e.Attempts != tc.attempts || e.Cause != tc.cause {
				t.Errorf("got %+v", e)
			}
			if (e.Err != nil) != (tc.cause != "") || e.Shed() || e.GRPC || e.GRPCStatus != -1 {
				t.Errorf("got err %v, shed %t, gRPC %t %d", e.Err, e.Shed(), e.GRPC, e.GRPCStatus)
			}
			if e.Method != tc.method || e.Target != tc.path+"?q" || e.Host != f.Addr().String() || e.Protocol != "HTTP/1.1" || e.UserAgent != "test" || e.Referer != "http://there/" {
				t.Errorf("the request is %+v", e)
			}
			if _, _, err := net.SplitHostPort(e.Client); err != nil || e.Began.IsZero() || e.FirstByte <= 0 || e.Duration < e.FirstByte {
				t.Errorf("client %q, first byte after %v, end after %v", e.Client, e.FirstByte, e.Duration)
			}
			if (e.Backend.ID != "") != (tc.attempts > 0) {
				t.Errorf("backend %+v after %d attempts", e.Backend, tc.attempts)
			}
		})
	}
}

// What is shed is told as such, and what waits is in the snapshot.
func TestObserverOfShedding(t *testing.T) {
	r := &recorder{}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: r, Limits: balance.Limits{BackendRequests: 1}})
	inside, release := make(chan bool, 1), make(chan bool)
	f.set(httpBackend(t, func(http.ResponseWriter, *http.Request) { inside <- true; <-release }))
	done := make(chan error, 1)
	slow, c := request(t, "GET", f.url("/"), nil), newClient(t)
	go func() {
		resp, err := c.Do(slow)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	receive(t, inside)
	get(t, f.url("/"))
	e := r.next(t, 0)
	if !e.Shed() || e.Status != 503 || e.Attempts != 0 {
		t.Errorf("got %+v", e)
	}
	close(release)
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
}

// A client that leaves is told apart from a backend that fails.
func TestObserverOfLeavingClient(t *testing.T) {
	r := &recorder{}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: r})
	asked := make(chan bool, 1)
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) { asked <- true; <-r.Context().Done() }))
	c := dial(t, f)
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
	receive(t, asked)
	c.Close()
	if e := r.next(t, 0); e.Cause != balance.CauseClient || e.Status != 0 || e.Err == nil || e.FirstByte != 0 {
		t.Errorf("got %+v", e)
	}
}

// A client that closes its connection with the answer got all of it.
func TestObserverOfLastRequest(t *testing.T) {
	r := &recorder{}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: r})
	f.set(httpBackend(t, says("hello")))
	for i := range 50 {
		c := dial(t, f)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		io.CopyN(io.Discard, resp.Body, 5)
		c.Close()
		if e := r.next(t, i); e.Cause != "" || e.Sent != 5 {
			t.Fatalf("got %+v", e)
		}
	}
}

// After a switch of protocols all bytes count.
func TestObserverOfWebSocket(t *testing.T) {
	r := &recorder{}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: r})
	f.set(echoSocket(t))
	c := dialSocket(t, f)
	if err := echo(c, "hello"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if e := r.next(t, 0); e.Status != 101 || e.Received < 5 || e.Sent < 5 || e.Cause != "" {
		t.Errorf("got %+v", e)
	}
}

// Of a call by gRPC its status is told.
func TestObserverOfGRPC(t *testing.T) {
	r := &recorder{}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: r})
	addr, _ := grpcBackend(t, &calls{id: "a"})
	f.set(addr)
	c := grpcClient(t, f)
	if _, err := c.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	_, err := c.UnaryCall(within(t), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.AlreadyExists)}})
	if status.Code(err) != codes.AlreadyExists {
		t.Fatal(err)
	}
	for i, want := range []codes.Code{codes.OK, codes.AlreadyExists} {
		e := r.next(t, i)
		if !e.GRPC || e.GRPCStatus != int(want) || e.Status != 200 || e.Protocol != "HTTP/2.0" || e.Cause != "" {
			t.Errorf("got %+v", e)
		}
	}
}

// The same for connections.
func TestObserverOfConnections(t *testing.T) {
	r := &recorder{}
	f := open(t, balance.Config{Mode: bunfile.ModeTCP, Observer: r})
	f.set(deadAddr(t), rawBackend(t, func(_ int, c *net.TCPConn) { io.Copy(c, c) }))
	c := dial(t, f)
	io.WriteString(c, "hello")
	c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	e := r.next(t, 0)
	if e.Protocol != "TCP" || e.Received != 5 || e.Sent != 5 || e.Attempts != 2 || e.Retries() != 1 || e.Backend.ID != "b1" || e.FirstByte <= 0 || e.Cause != "" {
		t.Errorf("got %+v", e)
	}
	f.set()
	if c := dialOrReset(t, f); c != nil {
		io.Copy(io.Discard, c)
	}
	if e := r.next(t, 1); e.Cause != balance.CauseUnavailable || !errors.Is(e.Err, balance.ErrNoBackend) || e.Attempts != 0 {
		t.Errorf("got %+v", e)
	}
}

// The same for sessions.
func TestObserverOfSessions(t *testing.T) {
	r := &recorder{}
	f := open(t, balance.Config{Mode: balance.ModeUDP, Observer: r}, balance.WithUDPIdleTimeout(50*time.Millisecond))
	f.set(newUDPBackend(t, "127.0.0.1:0", same).addr())
	c := dialUDP(t, f.Addr().String())
	if got := exchange(t, c, "hello"); got != "hello" {
		t.Fatal(got)
	}
	if e := r.next(t, 0); e.Protocol != "UDP" || e.Received != 5 || e.Sent != 5 || e.Attempts != 1 || e.FirstByte <= 0 || e.Cause != "" || e.Backend.ID != "b0" {
		t.Errorf("got %+v", e)
	}
}

// Changes of backends come in their order, and the frontend's end comes last.
func TestObserverOfChanges(t *testing.T) {
	r := &recorder{}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Observer: balance.Observers(nil, r, &recorder{}), Check: &balance.Check{Interval: 5 * time.Millisecond, Fall: 2}})
	ln := listen(t)
	addr := ln.Addr().String()
	ln.Close()
	f.set(addr)
	r.seen(t, "b0 joined false", "b0 out true")
	again, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	defer again.Close()
	r.seen(t, "b0 joined false", "b0 out true", "b0 back false")
	f.set()
	r.seen(t, "b0 joined false", "b0 out true", "b0 back false", "b0 left false")
	if err := f.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"opened web", "closed web"}; !slices.Equal(r.events, want) {
		t.Errorf("events %q, want %q", r.events, want)
	}
}

// The snapshot says what is going on.
func TestSnapshot(t *testing.T) {
	var src *balance.Source
	f := open(t, balance.Config{Mode: bunfile.ModeTCP, Observer: opening(func(s *balance.Source) { src = s }), Limits: balance.Limits{Connections: 1}})
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) { io.Copy(c, c) }))
	c := dial(t, f)
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if c := dialOrReset(t, f); c != nil {
		io.Copy(io.Discard, c)
	}
	eventually(t, "it was refused", func() bool { return src.Snapshot().Refused == 1 })
	s := src.Snapshot()
	if s.Connections != 1 || s.Accepted != 1 || s.Waiting != 0 || len(s.Backends) != 1 || s.Backends[0].Active != 1 {
		t.Errorf("got %+v", s)
	}
	if src.Mode != bunfile.ModeTCP || src.Addr.String() != f.Addr().String() {
		t.Errorf("got %+v", src)
	}
}

// opening is an observer of Opened.
type opening func(*balance.Source)

func (o opening) Opened(s *balance.Source)                     { o(s) }
func (opening) Closed(*balance.Source)                         {}
func (opening) Ended(*balance.Source, balance.Exchange)        {}
func (opening) Changed(*balance.Source, balance.BackendChange) {}

// BenchmarkObserver measures what it costs to be observed.
func BenchmarkObserver(b *testing.B) {
	for name, o := range map[string]balance.Observer{"none": nil, "one": opening(func(*balance.Source) {})} {
		b.Run(name, func(b *testing.B) {
			f := open(b, balance.Config{Mode: bunfile.ModeHTTP, Observer: o})
			f.set(httpBackend(b, says("x")))
			benchmark(b, f.url("/"), 1)
		})
	}
}
