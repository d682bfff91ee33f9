// Package balancetest holds the conformance suite of balancers and a fake that
// passes it.
package balancetest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// Balancer is what the suite tests: budgie.Balancer.
type Balancer interface {
	Listen(ctx context.Context, cfg balance.Config) (balance.Frontend, error)
}

// patience bounds every wait of the suite for something that has to happen.
const patience = 10 * time.Second

// Run tests a balancer, of which open returns a fresh one. All traffic is on the
// loopback interface. The suite demands what every balancer promises, and
// nothing of health and further attempts, in which balancers differ.
func Run(t *testing.T, open func(t *testing.T) Balancer) {
	t.Helper()
	tests := []struct {
		name string
		test func(t *testing.T, b Balancer)
	}{
		{"InvalidConfig", testInvalid},
		{"InvalidConfigUDP", testInvalidUDP},
		{"EndedContext", testEndedContext},
		{"OutlivesContext", testOutlivesContext},
		{"NoBackendHTTP", testNoBackendHTTP},
		{"NoBackendTCP", testNoBackendTCP},
		{"HTTP", testHTTP},
		{"TCP", testTCP},
		{"Dial", testDial},
		{"Spread", testSpread},
		{"Backup", testBackup},
		{"Status", testStatus},
		{"DeadBackend", testDeadBackend},
		{"UpdateKeepsState", testUpdateKeepsState},
		{"UpdateSparesRequests", testUpdateSparesRequests},
		{"SharesNoMemory", testSharesNoMemory},
		{"UpdateAfterShutdown", testUpdateAfterShutdown},
		{"ShutdownWaits", testShutdownWaits},
		{"ShutdownCutsOff", testShutdownCutsOff},
		{"ShutdownAgain", testShutdownAgain},
		{"Concurrent", testConcurrent},
		{"NoBackendUDP", testNoBackendUDP},
		{"UDP", testUDP},
		{"UDPSizes", testUDPSizes},
		{"UDPAffinity", testUDPAffinity},
		{"UDPUpdate", testUDPUpdate},
		{"UDPDeadBackend", testUDPDeadBackend},
		{"UDPShutdown", testUDPShutdown},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

func testInvalid(t *testing.T, b Balancer) {
	ok := balance.Config{Name: "web", Mode: bunfile.ModeHTTP}
	tests := map[string]func(*balance.Config){
		"auto mode":         func(c *balance.Config) { c.Mode = bunfile.ModeAuto },
		"no mode":           func(c *balance.Config) { c.Mode = "" },
		"unknown mode":      func(c *balance.Config) { c.Mode = "quic" },
		"unknown algorithm": func(c *balance.Config) { c.Algorithm = "fastest" },
		"hash of another":   func(c *balance.Config) { c.Hash.Header = "X-User" },
		"hash of two": func(c *balance.Config) {
			c.Algorithm, c.Hash = bunfile.ConsistentHash, bunfile.Hash{Header: "X-User", Cookie: "user"}
		},
		"hash of TCP": func(c *balance.Config) {
			c.Mode, c.Algorithm, c.Hash = bunfile.ModeTCP, bunfile.ConsistentHash, bunfile.Hash{Cookie: "user"}
		},
		"bodies of TCP":     func(c *balance.Config) { c.Mode, c.Limits.Body = bunfile.ModeTCP, 1 },
		"streams of TCP":    func(c *balance.Config) { c.Mode, c.Limits.Streams = bunfile.ModeTCP, 1 },
		"queue for all":     func(c *balance.Config) { c.Limits.Queue = 1 },
		"negative interval": func(c *balance.Config) { c.Check = &balance.Check{Interval: -1} },
		"negative timeout":  func(c *balance.Config) { c.Check = &balance.Check{Timeout: -1} },
		"negative rise":     func(c *balance.Config) { c.Check = &balance.Check{Rise: -1} },
		"negative fall":     func(c *balance.Config) { c.Check = &balance.Check{Fall: -1} },
		"relative path":     func(c *balance.Config) { c.Check = &balance.Check{Path: "health"} },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := ok
			ln := listen(t)
			cfg.Listener = ln
			spoil(&cfg)
			f, err := b.Listen(t.Context(), cfg)
			if !errors.Is(err, balance.ErrInvalid) || f != nil {
				t.Fatalf("Listen = %v, %v; want ErrInvalid", f, err)
			}
			accepts(t, ln)
		})
	}
	if _, err := b.Listen(t.Context(), ok); !errors.Is(err, balance.ErrInvalid) {
		t.Errorf("Listen without a listener: %v; want ErrInvalid", err)
	}
}

func testInvalidUDP(t *testing.T, b Balancer) {
	for name, spoil := range map[string]func(*balance.Config){
		"UDP without a socket": func(c *balance.Config) { c.PacketConn = nil },
		"UDP with a listener":  func(c *balance.Config) { c.Listener = listen(t) },
		"UDP with a check":     func(c *balance.Config) { c.Check = &balance.Check{} },
		"UDP with limits":      func(c *balance.Config) { c.Limits.Connections = 1 },
		"UDP with a hash": func(c *balance.Config) {
			c.Algorithm, c.Hash = bunfile.ConsistentHash, bunfile.Hash{Header: "X-User"}
		},
		"HTTP over a UDP socket":  func(c *balance.Config) { c.Mode = bunfile.ModeHTTP },
		"both kinds of listening": func(c *balance.Config) { c.Mode, c.Listener = bunfile.ModeTCP, listen(t) },
	} {
		t.Run(name, func(t *testing.T) {
			conn := listenUDP(t)
			cfg := balance.Config{Name: "dns", Mode: balance.ModeUDP, PacketConn: conn}
			spoil(&cfg)
			f, err := b.Listen(t.Context(), cfg)
			if !errors.Is(err, balance.ErrInvalid) || f != nil {
				t.Fatalf("Listen = %v, %v; want ErrInvalid", f, err)
			}
			receives(t, conn)
		})
	}
}

// accepts checks that a listener is open and nobody else accepts from it.
func accepts(t *testing.T, ln net.Listener) {
	t.Helper()
	go func() {
		if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			c.Close()
		}
	}()
	if dl, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
		dl.SetDeadline(time.Now().Add(patience))
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatalf("the listener is not open after the error: %v", err)
	}
	c.Close()
}

// A call whose context has ended does nothing: like any other error it leaves
// the listener open, and to its owner.
func testEndedContext(t *testing.T, b Balancer) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ln := listen(t)
	f, err := b.Listen(ctx, balance.Config{Name: "web", Listener: ln, Mode: bunfile.ModeHTTP})
	if !errors.Is(err, context.Canceled) || f != nil {
		t.Fatalf("Listen with an ended context = %v, %v; want its error", f, err)
	}
	accepts(t, ln)
}

// What goes in and what comes out is the caller's to change.
func testSharesNoMemory(t *testing.T, b Balancer) {
	check := balance.Check{Interval: time.Hour}
	ln := listen(t)
	f, err := b.Listen(t.Context(), balance.Config{Name: "web", Listener: ln, Mode: bunfile.ModeHTTP, Check: &check})
	if err != nil {
		t.Fatal(err)
	}
	shutdownLater(t, f)
	x, y := newHTTP(t, "x").backend("x"), newHTTP(t, "y").backend("y")
	set := []balance.Backend{x, y}
	f.Update(set)
	check = balance.Check{Interval: -1, Path: "nonsense"}
	set[0], set[1] = balance.Backend{ID: "spoiled", Addr: "spoiled"}, balance.Backend{}
	status := f.Status()
	for i := range status {
		status[i] = balance.BackendStatus{Backend: balance.Backend{ID: "spoiled"}, Failures: 99}
	}
	if s := f.Status(); len(s) != 2 || s[0].Backend != x || s[1].Backend != y || s[0].Failures+s[1].Failures != 0 {
		t.Errorf("status = %+v; want x and y, whatever callers do with their slices", s)
	}
	for range 2 {
		if code, body := get(t, f, "/"); code != http.StatusOK || body != "x" && body != "y" {
			t.Errorf("got %d %q", code, body)
		}
	}
}

func testUpdateAfterShutdown(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, "")
	h := newHTTP(t, "a")
	f.Update([]balance.Backend{h.backend("a")})
	held := h.hold(t, f)
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	refused(t, f)
	unchanged := func(when string) {
		t.Helper()
		f.Update([]balance.Backend{newHTTP(t, "late").backend("late")})
		if s := f.Status(); len(s) != 1 || s[0].Backend != h.backend("a") {
			t.Errorf("status = %+v after an Update %s Shutdown; want what was before", s, when)
		}
		f.Update(nil)
		if s := f.Status(); len(s) != 1 {
			t.Errorf("status = %+v after an empty Update %s Shutdown", s, when)
		}
	}
	unchanged("during")
	h.letGo()
	if got := wait(t, held); got.err != nil || got.body != "a" {
		t.Errorf("the request under way got %q, %v; want a", got.body, got.err)
	}
	if err := wait(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	unchanged("after")
}

func testOutlivesContext(t *testing.T, b Balancer) {
	ctx, cancel := context.WithCancel(t.Context())
	ln := listen(t)
	f, err := b.Listen(ctx, balance.Config{Name: "web", Listener: ln, Mode: bunfile.ModeHTTP})
	if err != nil {
		t.Fatal(err)
	}
	shutdownLater(t, f)
	if f.Addr().String() != ln.Addr().String() {
		t.Errorf("Addr = %v; want %v", f.Addr(), ln.Addr())
	}
	cancel()
	f.Update([]balance.Backend{newHTTP(t, "a").backend("a")})
	if code, body := get(t, f, "/"); code != http.StatusOK || body != "a" {
		t.Errorf("got %d %q after the end of Listen's context; want 200 from a", code, body)
	}
}

func testDeadBackend(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, "")
	dead := listen(t)
	dead.Close()
	f.Update([]balance.Backend{{ID: "dead", Addr: dead.Addr().String()}})
	if code, _ := get(t, f, "/"); code != http.StatusBadGateway && code != http.StatusServiceUnavailable {
		t.Errorf("got %d from a dead backend; want 502 or 503", code)
	}
	s := waitStatus(t, f, func(s []balance.BackendStatus) bool { return s[0].Failures > 0 && s[0].Active == 0 })
	if s[0].Requests != 0 || s[0].LastError == nil {
		t.Errorf("status = %+v; want no request and an error", s[0])
	}
}

func testUpdateKeepsState(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, "")
	stays, moves, leaves := newHTTP(t, "s"), newHTTP(t, "m"), newHTTP(t, "l")
	f.Update([]balance.Backend{stays.backend("stays"), moves.backend("moves"), leaves.backend("leaves")})
	for range 6 {
		get(t, f, "/")
	}
	settled(t, f)
	before := stays.requests.Load()
	moved := newHTTP(t, "m2")
	heavier := stays.backend("stays")
	heavier.Weight = 3
	f.Update([]balance.Backend{moved.backend("moves"), heavier})
	s := f.Status()
	if len(s) != 2 || s[0].Backend != moved.backend("moves") || s[1].Backend != heavier {
		t.Fatalf("status = %+v; want moves and stays", s)
	}
	if s[0].Requests != 0 {
		t.Errorf("a backend with a new address begins with %d requests; want 0", s[0].Requests)
	}
	if s[1].Requests != before || before == 0 {
		t.Errorf("a backend that stays has %d requests; want %d, and some", s[1].Requests, before)
	}
	left := leaves.requests.Load() + moves.requests.Load()
	for range 6 {
		get(t, f, "/")
	}
	if leaves.requests.Load()+moves.requests.Load() != left {
		t.Error("a backend that left still gets requests")
	}
	f.Update(nil)
	if code, _ := get(t, f, "/"); code != http.StatusServiceUnavailable {
		t.Errorf("got %d after the last backend left; want 503", code)
	}
}

func testUpdateSparesRequests(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, "")
	h := newHTTP(t, "old")
	f.Update([]balance.Backend{h.backend("old")})
	held := h.hold(t, f)
	f.Update([]balance.Backend{newHTTP(t, "new").backend("new")})
	if _, body := get(t, f, "/"); body != "new" {
		t.Errorf("got %q after the update; want new", body)
	}
	h.letGo()
	if got := <-held; got.err != nil || got.body != "old" {
		t.Errorf("the request under way got %q, %v; want old", got.body, got.err)
	}
}

func testShutdownWaits(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, "")
	h := newHTTP(t, "a")
	f.Update([]balance.Backend{h.backend("a")})
	held := h.hold(t, f)
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	refused(t, f)
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned %v with a request under way", err)
	default:
	}
	h.letGo()
	if got := <-held; got.err != nil || got.body != "a" {
		t.Errorf("the request under way got %q, %v; want a", got.body, got.err)
	}
	if err := wait(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func testShutdownCutsOff(t *testing.T, b Balancer) {
	for _, mode := range []bunfile.BalanceMode{bunfile.ModeHTTP, bunfile.ModeTCP} {
		t.Run(string(mode), func(t *testing.T) {
			f := front(t, b, mode, "")
			h := newHTTP(t, "a")
			f.Update([]balance.Backend{h.backend("a")})
			held := h.hold(t, f)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- f.Shutdown(ctx) }()
			refused(t, f)
			cancel()
			if err := wait(t, done); !errors.Is(err, context.Canceled) {
				t.Errorf("Shutdown = %v; want the context's error", err)
			}
			if got := wait(t, held); got.err == nil {
				t.Errorf("the request under way got %q; want it cut off", got.body)
			}
			if err := f.Shutdown(context.Background()); err != nil {
				t.Errorf("Shutdown after the end = %v", err)
			}
		})
	}
}

func testShutdownAgain(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeTCP, "")
	done := make(chan error, 3)
	for range cap(done) {
		go func() { done <- f.Shutdown(context.Background()) }()
	}
	for range cap(done) {
		if err := wait(t, done); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Shutdown(ended); err != nil {
		t.Errorf("Shutdown after the end = %v; want nil whatever the context", err)
	}
	refused(t, f)
}

// testConcurrent is for the race detector, and for requests lost in an update.
func testConcurrent(t *testing.T, b Balancer) {
	f := front(t, b, bunfile.ModeHTTP, bunfile.LeastConnections)
	x, y := newHTTP(t, "x").backend("x"), newHTTP(t, "y").backend("y")
	f.Update([]balance.Backend{x, y})
	stop := make(chan struct{})
	var churn, load sync.WaitGroup
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			f.Update([][]balance.Backend{{x}, {y}, {y, x}}[i%3])
			if s := f.Status(); !slices.IsSortedFunc(s, byID) {
				t.Errorf("status is not sorted: %+v", s)
			}
		}
	})
	client := newClient(t)
	for range 4 {
		load.Go(func() {
			for range 25 {
				if code, _, err := client.get("http://" + f.Addr().String()); err != nil || code != http.StatusOK {
					t.Errorf("got %d, %v during updates", code, err)
				}
			}
		})
	}
	load.Wait()
	close(stop)
	churn.Wait()
}
