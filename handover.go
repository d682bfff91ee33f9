package budgie

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/internal/handover"
)

// WithHandOver lets another process of the same user and data directory take this
// client's place, as one with another version of the program: the containers that it
// supervises ([TakingOver]) or runs itself ([Client.TakeOver]), or the address of a
// [Client.Balance] ([WithTakeOver]). The other process gets the listening sockets, and
// accepts on them before this one stops accepting: no connection is refused. What this
// one has under way ends here. Where the other one fails before it serves, this one goes
// on.
//
// What the program has to do when it was replaced is up to it, see [Client.Replaced]. It
// works on Linux; elsewhere the option has no effect.
func WithHandOver() Option { return func(c *config) { c.handOver = true } }

// WithUpgrade sets what starts a successor of this process when the user asks for one
// by "budgie upgrade": it returns what to tell of it when it serves, or why it does not.
// It includes [WithHandOver].
func WithUpgrade(start func(ctx context.Context) (string, error)) Option {
	return func(c *config) { c.handOver, c.upgrade = true, start }
}

// WithTakeOver makes [Client.Balance] take its address over from a process of the same
// user and data directory that serves it, where that was given [WithHandOver]. Where that
// one has replicas to serve, Balance then waits until this client has some, for 15 s at
// most, and returns when it accepts in place of the other one; an error leaves the other
// one as it is. An address that nobody serves is opened as without the option. It works
// on Linux; elsewhere the option has no effect.
func WithTakeOver() Option { return func(c *config) { c.takeOver = true } }

// Replaced returns a channel that is closed when another process has taken something
// over (see [WithHandOver]), and serves it. The program should then end: Supervise has
// returned [ErrReplaced] or is about to, frontends of Balance end by their Shutdown, and
// Close waits for what is under way, as long as the containers' stop_timeout says.
func (c *Client) Replaced() <-chan struct{} { return c.hand.replaced }

// setReplaced says that another process has taken over.
func (h *handOver) setReplaced() { h.once.Do(func() { close(h.replaced) }) }

// What can be asked for: what a supervisor has, what the program has that runs a
// container itself, or the address of a Balance.
const (
	wantSupervisor = "supervisor"
	wantContainer  = "container "
	wantBalance    = "balance "
)

// What sockets are for.
const (
	scopeSupervisor = "supervisor"
	scopeOwn        = "own"
	scopeEndpoint   = "endpoint"
)

// handOverOwner is an owner name that a supervisor holds while another process takes
// over from it: who takes the name of the supervisor meanwhile and is not that one
// gives it back.
const handOverOwner = "supervisor-handover"

// handOver is what a client can hand over, and what it is taking over.
type handOver struct {
	replaced chan struct{}
	once     sync.Once // of replaced
	serving  sync.Once // of letting others ask
	// supervisions are requests to let the supervision go.
	supervisions chan *release
	// stop ends that others may ask, nil where they may not.
	stop func()
	// draining are connections that go on here after their sockets were handed over.
	draining sync.WaitGroup

	mu      sync.Mutex
	sockets map[*heldSocket]bool
	// giving has the scopes that are being handed over.
	giving map[string]bool
	// taking is what is being taken over, nil for nothing.
	taking *taking
}

func newHandOver() handOver {
	return handOver{
		replaced: make(chan struct{}), supervisions: make(chan *release),
		sockets: make(map[*heldSocket]bool), giving: make(map[string]bool),
	}
}

// heldSocket is a socket of a frontend, or of the endpoint, which can be handed over. A
// nil one cannot.
type heldSocket struct {
	h           *handOver
	scope, name string
	conn        syscall.Conn
	// leave stops taking anything from it.
	leave func()
	// busy reports whether it is served well.
	busy func() bool
}

// forget drops a socket that will be closed.
func (s *heldSocket) forget() {
	if s == nil {
		return
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	delete(s.h.sockets, s)
}

// hold makes a socket one that can be handed over, and lets other processes ask. It
// returns nil where that is not wanted, or not possible.
func (c *Client) hold(s heldSocket, socket any) *heldSocket {
	conn, ok := socket.(syscall.Conn)
	if !c.cfg.handOver || !ok || s.leave == nil {
		return nil
	}
	s.h, s.conn = &c.hand, conn
	c.hand.mu.Lock()
	c.hand.sockets[&s] = true
	c.hand.mu.Unlock()
	c.letAsk()
	return &s
}

// holdFrontend holds the socket of a frontend that listens on a host. One that cannot
// leave its socket to others cannot be handed over.
func (c *Client) holdFrontend(scope, host string, socket any, f balance.Frontend) *heldSocket {
	return c.hold(heldSocket{scope: scope, name: socketName(host, f.Addr()), leave: leaverOf(f), busy: func() bool { return serves(f) }}, socket)
}

// leaverOf returns what makes a frontend leave its socket to another process, nil where
// it cannot.
func leaverOf(f balance.Frontend) func() {
	if l, ok := f.(balance.Leaver); ok {
		return l.Leave
	}
	return nil
}

// serves reports whether a frontend has a backend that it can use.
func serves(f balance.Frontend) bool {
	for _, b := range f.Status() {
		if b.Healthy {
			return true
		}
	}
	return false
}

// socketName is how the other process knows a socket: the host as it was given, and the
// port that it got.
func socketName(host string, a net.Addr) string {
	return a.Network() + " " + net.JoinHostPort(host, strconv.Itoa(portOf(a)))
}

// scope is what the sockets of a container are for.
func (k *keeper) scope() string {
	if k.supervised {
		return scopeSupervisor
	}
	return scopeOwn
}

// socketsOf returns the sockets of a scope.
func (h *handOver) socketsOf(scope string) []*heldSocket {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []*heldSocket
	for s := range h.sockets {
		if s.scope == scope {
			list = append(list, s)
		}
	}
	return list
}

// isTaking reports whether something is being taken over.
func (h *handOver) isTaking() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.taking != nil
}

func (c *Client) handOverDir() string { return filepath.Join(c.cfg.dataDir, "handover") }

// letAsk lets other processes ask for what this client has, where that is wanted, until
// it ends.
func (c *Client) letAsk() {
	if c.cfg.handOver {
		c.hand.serving.Do(c.serveAsking)
	}
}

func (c *Client) serveAsking() {
	stop, err := handover.Serve(c.handOverDir(), giver{c})
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return
	case err != nil:
		c.log.Warn("no other process will be able to take over from this one without a gap", "error", err)
		return
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.hand.stop = stop
	}
	c.mu.Unlock()
	if closed {
		stop()
	}
}

// stopAsking ends that other processes can ask; who is taking over just now has
// failed. The client is closed.
func (c *Client) stopAsking() {
	c.mu.Lock()
	stop := c.hand.stop
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// inherited returns a listen that prefers a socket that was taken over, and sets what
// holds its frontend then.
func inherited[S any](c *Client, network string, hold *<-chan struct{}, listen func(context.Context, string) (S, error)) func(context.Context, string) (S, error) {
	return func(ctx context.Context, addr string) (S, error) {
		if s, until, ok := c.hand.inherit(network + " " + addr); ok {
			var socket any = s.Listener
			if s.PacketConn != nil {
				socket = s.PacketConn
			}
			if taken, ok := socket.(S); ok {
				*hold = until
				return taken, nil
			}
			s.Close()
		}
		return listen(ctx, addr)
	}
}

// afterClosed calls f when a channel is closed, unless stop is called before.
func afterClosed(ch <-chan struct{}, f func()) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		select {
		case <-ch:
			f()
		case <-stopped:
		}
	}()
	return sync.OnceFunc(func() { close(stopped) })
}
