package balancetest

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// Fake is a Balancer for tests of what uses one: it records its frontends, and
// carries traffic honestly but plainly, to one backend after the other, without
// checks, health or further attempts. It passes [Run]. Its methods may be called
// concurrently.
type Fake struct {
	mu        sync.Mutex
	frontends []*FakeFrontend
}

// NewFake returns a Fake without frontends.
func NewFake() *Fake { return &Fake{} }

// Frontends returns all frontends so far, oldest first, those that were shut
// down included.
func (f *Fake) Frontends() []*FakeFrontend {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.frontends)
}

// Listen opens a frontend as balance.Proxy does.
func (f *Fake) Listen(ctx context.Context, cfg balance.Config) (balance.Frontend, error) {
	if err := valid(cfg); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	front := &FakeFrontend{cfg: cfg, done: make(chan struct{})}
	front.serve()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frontends = append(f.frontends, front)
	return front, nil
}

func valid(cfg balance.Config) error {
	problem := ""
	switch c := cfg.Check; {
	case cfg.Mode != bunfile.ModeHTTP && cfg.Mode != bunfile.ModeTCP && cfg.Mode != balance.ModeUDP:
		problem = "mode"
	case (cfg.Mode == balance.ModeUDP) != (cfg.Listener == nil):
		problem = "listener"
	case (cfg.Mode == balance.ModeUDP) != (cfg.PacketConn != nil):
		problem = "packet connection"
	case cfg.Mode == balance.ModeUDP && c != nil:
		problem = "check of a UDP port"
	case cfg.Algorithm != "" && !slices.Contains(bunfile.Algorithms(), cfg.Algorithm):
		problem = "algorithm"
	case cfg.Hash != bunfile.Hash{} && (cfg.Algorithm != bunfile.ConsistentHash || cfg.Hash.Header != "" && cfg.Hash.Cookie != ""):
		problem = "hash"
	case cfg.Hash != bunfile.Hash{} && cfg.Mode != bunfile.ModeHTTP:
		problem = "hash of another mode"
	case cfg.Mode == bunfile.ModeTCP && (cfg.Limits.Body != 0 || cfg.Limits.Streams != 0) || cfg.Mode == balance.ModeUDP && cfg.Limits != balance.Limits{}:
		problem = "limits of another mode"
	case cfg.Limits.Queue > 0 && cfg.Limits.BackendRequests == 0:
		problem = "queue"
	case c != nil && (c.Interval < 0 || c.Timeout < 0 || c.Rise < 0 || c.Fall < 0):
		problem = "check below zero"
	case c != nil && c.Path != "" && !strings.HasPrefix(c.Path, "/"):
		problem = "check path"
	default:
		return nil
	}
	return fmt.Errorf("%w for %q: %s", balance.ErrInvalid, cfg.Name, problem)
}

// FakeFrontend is a frontend of a [Fake].
type FakeFrontend struct {
	cfg    balance.Config
	server *http.Server   // HTTP mode
	udp    *fakeUDP       // UDP mode
	wg     sync.WaitGroup // the accepting goroutine and those of TCP connections
	conns  sync.Map       // TCP mode: net.Conn, open ones
	cut    atomic.Bool    // whatever is added to conns is closed
	close  sync.Once
	done   chan struct{} // closed when nothing is under way after a shutdown

	mu       sync.Mutex
	backends []balance.BackendStatus
	updates  [][]balance.Backend
	turn     int
	shutdown bool
}

// Config is what the frontend was opened with.
func (f *FakeFrontend) Config() balance.Config { return f.cfg }

// Updates returns what every Update was called with, in order.
func (f *FakeFrontend) Updates() [][]balance.Backend {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.updates)
}

// ShutDown reports whether Shutdown was called.
func (f *FakeFrontend) ShutDown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shutdown
}

// Addr implements balance.Frontend.
func (f *FakeFrontend) Addr() net.Addr {
	if f.udp != nil {
		return f.cfg.PacketConn.LocalAddr()
	}
	return f.cfg.Listener.Addr()
}

// Update implements balance.Frontend.
func (f *FakeFrontend) Update(backends []balance.Backend) {
	f.mu.Lock()
	if f.shutdown {
		f.mu.Unlock()
		return
	}
	f.setBackends(backends)
	f.mu.Unlock()
	if f.udp != nil {
		f.udp.endWhere(func(b balance.Backend) bool {
			return !slices.ContainsFunc(backends, func(stays balance.Backend) bool { return same(stays, b) })
		})
	}
}

// setBackends is called with the lock.
func (f *FakeFrontend) setBackends(backends []balance.Backend) {
	f.updates = append(f.updates, slices.Clone(backends))
	var next []balance.BackendStatus
	for _, b := range backends {
		s := balance.BackendStatus{Backend: b, Healthy: true}
		if i := f.index(b); i >= 0 {
			s = f.backends[i]
			s.Weight, s.Backup = b.Weight, b.Backup
		}
		if !slices.ContainsFunc(next, func(n balance.BackendStatus) bool { return same(n.Backend, b) }) {
			next = append(next, s)
		}
	}
	slices.SortFunc(next, func(a, b balance.BackendStatus) int {
		return strings.Compare(a.ID+"\x00"+a.Addr, b.ID+"\x00"+b.Addr)
	})
	f.backends = next
}

// Status implements balance.Frontend.
func (f *FakeFrontend) Status() []balance.BackendStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.backends)
}

// Shutdown implements balance.Frontend.
func (f *FakeFrontend) Shutdown(ctx context.Context) error {
	f.mu.Lock()
	f.shutdown = true
	f.mu.Unlock()
	f.close.Do(func() {
		go func() {
			defer close(f.done)
			if f.server != nil {
				// Ended by cutOff, if not before.
				f.server.Shutdown(context.Background())
			}
			if f.udp != nil {
				f.cfg.PacketConn.Close()
			} else {
				f.cfg.Listener.Close()
			}
			f.wg.Wait()
		}()
	})
	select {
	case <-f.done:
		return nil
	default:
	}
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
	}
	f.cutOff()
	<-f.done
	return ctx.Err()
}

func (f *FakeFrontend) cutOff() {
	if f.server != nil {
		f.server.Close()
	}
	f.cut.Store(true)
	f.conns.Range(func(c, _ any) bool {
		c.(net.Conn).Close()
		return true
	})
}

func (f *FakeFrontend) track(c net.Conn) {
	f.conns.Store(c, nil)
	if f.cut.Load() {
		c.Close()
	}
}

// same reports whether two are one backend, whatever its weight and whether it is a
// backup.
func same(a, b balance.Backend) bool { return a.ID == b.ID && a.Addr == b.Addr }

// index finds a backend; the lock is held.
func (f *FakeFrontend) index(b balance.Backend) int {
	return slices.IndexFunc(f.backends, func(s balance.BackendStatus) bool { return same(s.Backend, b) })
}

// begin takes the next backend.
func (f *FakeFrontend) begin() (balance.Backend, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.backends) == 0 {
		return balance.Backend{}, false
	}
	if slices.ContainsFunc(f.backends, func(s balance.BackendStatus) bool { return !s.Backup }) {
		for f.backends[f.turn%len(f.backends)].Backup {
			f.turn++
		}
	}
	s := &f.backends[f.turn%len(f.backends)]
	f.turn++
	s.Active++
	s.Requests++
	return s.Backend, true
}

// end gives a backend back, which may have left meanwhile.
func (f *FakeFrontend) end(b balance.Backend, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.index(b)
	if i < 0 || f.backends[i].Active == 0 {
		return
	}
	s := &f.backends[i]
	s.Active--
	if err != nil {
		s.Requests--
		s.Failures++
		s.LastError = err
	}
}

func (f *FakeFrontend) serve() {
	if f.cfg.Mode == bunfile.ModeHTTP {
		f.server = &http.Server{Handler: http.HandlerFunc(f.serveHTTP), ErrorLog: log.New(io.Discard, "", 0)}
		f.wg.Go(func() { f.server.Serve(f.cfg.Listener) })
		return
	}
	if f.cfg.Mode == balance.ModeUDP {
		f.udp = newFakeUDP(f)
		f.wg.Go(f.udp.serve)
		return
	}
	f.wg.Go(func() {
		for {
			c, err := f.cfg.Listener.Accept()
			if err != nil {
				return
			}
			f.track(c)
			f.wg.Go(func() { f.serveTCP(c) })
		}
	})
}

func (f *FakeFrontend) serveHTTP(w http.ResponseWriter, r *http.Request) {
	b, ok := f.begin()
	if !ok {
		http.Error(w, fmt.Sprintf("service %q: no replica is available", f.cfg.Name), http.StatusServiceUnavailable)
		return
	}
	var failed error
	defer func() { f.end(b, failed) }()
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return f.dial(ctx, addr)
	}}
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: "http", Host: b.Addr})
			pr.Out.Host = pr.In.Host
			pr.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			failed = err
			http.Error(w, fmt.Sprintf("service %q: %v", f.cfg.Name, err), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

// dial connects to a backend.
func (f *FakeFrontend) dial(ctx context.Context, addr string) (net.Conn, error) {
	if f.cfg.Dial != nil {
		return f.cfg.Dial(ctx, addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func (f *FakeFrontend) serveTCP(client net.Conn) {
	defer f.conns.Delete(client)
	defer client.Close()
	b, ok := f.begin()
	if !ok {
		return
	}
	server, err := f.dial(context.Background(), b.Addr)
	defer func() { f.end(b, err) }()
	if err != nil {
		return
	}
	f.track(server)
	defer f.conns.Delete(server)
	defer server.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { copyHalf(server, client) })
	copyHalf(client, server)
}

// copyHalf passes one direction on, its end included.
func copyHalf(dst, src net.Conn) {
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		src.Close()
		return
	}
	if cw, ok := dst.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
}
