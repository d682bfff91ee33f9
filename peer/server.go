package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// Node is what a Server serves: whoever supervises containers. Its methods may
// be called concurrently, and are given up when their context ends.
type Node interface {
	// Containers returns the node's own containers. Their field Node is filled
	// in by the Server.
	Containers(ctx context.Context) ([]Container, error)
	// Watch returns a channel that gets a value at once, and at least one after
	// every change of what Containers returns. It need not be closed when ctx
	// ends; where it is closed before, the peers' watching ends.
	Watch(ctx context.Context) (<-chan struct{}, error)
	// Spec returns the .bun text of a container's specification. The error for
	// one that is not there is ErrNotFound.
	Spec(ctx context.Context, id string) ([]byte, error)
	// Images are the runtimes that have images, asked in order.
	Images() []runtime.ImageSource
}

// Hoster is a [Node] that may be a host. A Node that is none of these is no host.
type Hoster interface {
	// Hosting returns what the node tells of its being a host, nil where it is not.
	// The channels of Watch get a value after every change of it, too.
	Hosting() *Hosting
}

// Option changes how a Server works.
type Option func(*Server)

// WithLogger sets where the Server reports what nobody waits for. The default
// is silent.
func WithLogger(log *slog.Logger) Option {
	return func(s *Server) {
		if log != nil {
			s.log = log
		}
	}
}

// withLimits is for tests.
func withLimits(l limits) Option { return func(s *Server) { s.limits = l } }

// Server is a node's endpoint. It is made by [NewServer]. All methods may be
// called concurrently.
type Server struct {
	flock  *trust.Flock
	node   Node
	log    *slog.Logger
	limits limits

	http     *http.Server
	conns    *quota[netip.Addr]
	requests *quota[string]
	streams  map[string]*streamService // by protocol
	// ctx ends with Close.
	ctx    context.Context
	cancel context.CancelFunc

	// left is closed by Leave.
	left chan struct{}

	mu     sync.Mutex
	closed bool
	gates  map[*gate]bool
	// busy counts calls of Serve, connections and requests; idle is signalled
	// when it becomes zero.
	busy int
	idle *sync.Cond
}

// NewServer returns the endpoint of a node of the flock.
func NewServer(f *trust.Flock, n Node, opts ...Option) *Server {
	s := &Server{
		flock: f, node: n, log: slog.New(slog.DiscardHandler), limits: defaultLimits(),
		gates: make(map[*gate]bool), left: make(chan struct{}),
	}
	for _, o := range opts {
		o(s)
	}
	s.idle = sync.NewCond(&s.mu)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.conns = newQuota[netip.Addr](s.limits.conns, s.limits.connsPerAddr)
	s.requests = newQuota[string](s.limits.requests, s.limits.requestsPerNode)
	s.streams = s.newStreams()
	s.http = s.newHTTP()
	return s
}

// newHTTP returns the HTTP server for connections of a gate.
func (s *Server) newHTTP() *http.Server {
	var h2 http.Protocols
	h2.SetHTTP2(true)
	return &http.Server{
		Handler:        http.HandlerFunc(s.serve),
		Protocols:      &h2,
		MaxHeaderBytes: maxHeader,
		// The handshake is over when it gets a connection. There are no bodies to
		// read, and each answer has deadlines of its own.
		IdleTimeout: s.limits.idle,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          s.limits.streams,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: 64 << 10,
			MaxReceiveBufferPerStream:     16 << 10,
			MaxDecoderHeaderTableSize:     4 << 10,
			SendPingTimeout:               s.limits.ping,
			PingTimeout:                   s.limits.ping,
			WriteByteTimeout:              s.limits.write,
		},
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ConnState:   s.connState,
	}
}

// Serve serves the connections of a listener, such as that of [Listen], until
// [Server.Close], and then returns nil, or until the listener fails, or the
// flock is closed. It closes the listener. It can be called for several. After
// Close the error is ErrClosed.
func (s *Server) Serve(ln net.Listener) error {
	g := newGate(ln, s)
	defer g.wg.Wait()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.Join(ErrClosed, g.Close())
	}
	s.gates[g] = true
	s.busy++
	s.mu.Unlock()
	defer s.leave()
	err := s.http.Serve(g)
	_ = g.Close() // it is closed
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.gates, g)
	if s.closed {
		return nil
	}
	return fmt.Errorf("serve peers on %s: %w", ln.Addr(), err)
}

// connState counts connections.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.mu.Lock()
		s.busy++
		s.mu.Unlock()
	case http.StateClosed:
		s.conns.leave(addrOf(c.RemoteAddr()))
		s.leave()
	}
}

// leave is the end of something that busy counts.
func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy--; s.busy == 0 {
		s.idle.Broadcast()
	}
}

// Leave stops accepting on the listeners, for another process that has the same sockets,
// and sends those away who watch, so that they turn to it. What is under way goes on
// until Close.
func (s *Server) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.left:
		return
	default:
	}
	close(s.left)
	for g := range s.gates {
		g.leave()
	}
}

// Close ends the listeners and connections, and waits until nothing is served
// any more. It can be called again.
func (s *Server) Close() error {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	for g := range s.gates {
		_ = g.Close() // it does not fail
	}
	s.mu.Unlock()
	err := s.http.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.busy > 0 {
		s.idle.Wait()
	}
	return err
}
