package trust

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/budgiehq/budgie/internal/ownership"
)

// Flock is this machine's membership: its node's identity, and the token as it
// is at any moment, also where another process changes it. It is made by
// [Open] or [New]. All methods may be called concurrently.
type Flock struct {
	self   *identity
	source source
	clock  func() time.Time
	log    *slog.Logger
	seen   func(Peer)
	rescan time.Duration

	mu     sync.Mutex
	closed bool
	gen    *Generation // nil before the first use
	conns  map[*conn]*Generation
	// watching is true once changes by others are looked out for.
	watching bool
	stop     chan struct{}
	wg       sync.WaitGroup
}

// Option changes how a Flock works.
type Option func(*Flock)

// WithToken gives the Flock a token, which then is fixed: nothing is read from
// the data directory, and [Flock.Set] and [Flock.Rotate] fail with ErrFixed and
// origin, which says where the token comes from, such as an environment
// variable.
func WithToken(t Token, origin string) Option {
	return func(f *Flock) { f.source = &tokenFixed{t, origin} }
}

// WithLogger sets where the Flock reports what nobody waits for. The default
// is silent. Secrets are never logged.
func WithLogger(log *slog.Logger) Option {
	return func(f *Flock) {
		if log != nil {
			f.log = log
		}
	}
}

// WithClock sets the clock that certificates are made and judged by. The
// default is time.Now.
func WithClock(now func() time.Time) Option { return func(f *Flock) { f.clock = now } }

// WithPeerFunc calls seen with every peer that has proved who it is, with the
// difference of the clocks, during the handshake, which waits for it.
func WithPeerFunc(seen func(Peer)) Option { return func(f *Flock) { f.seen = seen } }

// Open returns the membership that a data directory keeps: the token in the
// file "token" and the node's private key in "node.key", both of mode 0600. The
// directory is created if need be; so is the key, and the token at its first
// use. Processes that do so at the same time agree on one. A file that is
// damaged, not regular, of another user, or open to others is refused with
// ErrUnusable; the token's at its use.
func Open(dir string, opts ...Option) (*Flock, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open flock: %w", err)
	}
	if err := ownership.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open flock: %w%s", err, advice(err))
	}
	self, err := loadIdentity(dir)
	if err != nil {
		return nil, fmt.Errorf("open flock: %w", err)
	}
	return newFlock(self, newTokenFile(dir), opts), nil
}

// New returns a membership that is kept in memory alone: a new node, in a new
// flock unless [WithToken] names one.
func New(opts ...Option) (*Flock, error) {
	self, err := newIdentity()
	if err != nil {
		return nil, err
	}
	return newFlock(self, &tokenMemory{NewToken()}, opts), nil
}

func newFlock(self *identity, s source, opts []Option) *Flock {
	f := &Flock{
		self: self, source: s, clock: time.Now, log: slog.New(slog.DiscardHandler), rescan: rescan,
		conns: make(map[*conn]*Generation), stop: make(chan struct{}),
	}
	for _, o := range opts {
		o(f)
	}
	return f
}

// NodeID returns the id of this node, see the function [NodeID].
func (f *Flock) NodeID() string { return f.self.id }

// Token returns the token as it is now. The first use of a data directory makes
// one.
func (f *Flock) Token() (Token, error) {
	g, err := f.current()
	if err != nil {
		return Token{}, err
	}
	return g.token, nil
}

// Set makes this machine a member of a token's flock. Connections that were
// made with the token before are ended, and it is refused from now on, in this
// process before Set returns and in others at once. Of several at the same
// time, the last one counts. A token given by [WithToken] cannot be changed:
// ErrFixed.
func (f *Flock) Set(t Token) error {
	if t.IsZero() {
		return errors.New("set the token: it is the zero value")
	}
	f.mu.Lock()
	err := ErrClosed
	if !f.closed {
		err = f.source.write(t)
	}
	f.mu.Unlock()
	if err == nil {
		_, err = f.current()
	}
	return err
}

// Rotate sets a new token and returns it. The machines that are to stay in the
// flock need it too.
func (f *Flock) Rotate() (Token, error) {
	t := NewToken()
	if err := f.Set(t); err != nil {
		return Token{}, err
	}
	return t, nil
}

// Close ends the connections that were made through this Flock, and its
// looking out for changes. It can be called again.
func (f *Flock) Close() error {
	f.mu.Lock()
	var open []*conn
	if !f.closed {
		f.closed = true
		close(f.stop)
		for c := range f.conns {
			open = append(open, c)
		}
		clear(f.conns)
		f.endGeneration()
	}
	f.mu.Unlock()
	for _, c := range open {
		_ = c.Conn.Close()
	}
	f.wg.Wait()
	return nil
}
