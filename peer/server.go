package peer

import (
	"context"
	"errors"
	"log/slog"
	"net"

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

// Server is a node's endpoint. It is made by [NewServer]. All methods may be
// called concurrently.
type Server struct {
	flock *trust.Flock
	node  Node
	log   *slog.Logger
}

// NewServer returns the endpoint of a node of the flock.
func NewServer(f *trust.Flock, n Node, opts ...Option) *Server {
	s := &Server{flock: f, node: n, log: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Serve serves the connections of a listener, such as that of [Listen], until
// [Server.Close], and then returns nil, or until the listener fails. It closes
// the listener. It can be called for several.
func (s *Server) Serve(ln net.Listener) error {
	return errors.Join(errors.ErrUnsupported, ln.Close())
}

// Close ends the listeners and connections, and waits until nothing is served
// any more. It can be called again.
func (s *Server) Close() error { return nil }
