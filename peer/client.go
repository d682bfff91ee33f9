package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/budgiehq/budgie/trust"
)

// ClientOption changes how a Client works.
type ClientOption func(*Client)

// WithDial replaces how connections to addresses are made, as where they go
// through something else than this machine's network. The default is that of a
// net.Dialer.
func WithDial(dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)) ClientOption {
	return func(c *Client) { c.dial = dial }
}

// Client talks to the endpoint of one other node. It is made by [NewClient],
// and connects when it has to, again where the connection was lost. All methods
// may be called concurrently.
//
// Errors say which node they are of. They are those of this package, of package
// trust, of the context, or of the network.
type Client struct {
	flock *trust.Flock
	addrs []netip.AddrPort
	dial  func(context.Context, netip.AddrPort) (net.Conn, error)
	// ctx ends with Close, for the reason ErrClosed.
	ctx context.Context
	end context.CancelCauseFunc

	// What is small, and what is large, have connections of their own: signs of
	// life are not to wait behind blobs.
	small, large slot
	// portDials are free places for connections to ports that are being made.
	portDials chan struct{}

	mu   sync.Mutex
	node string
	addr netip.AddrPort
}

// slot is where a connection is kept.
type slot struct {
	// turn is held by whoever looks at link, or makes it.
	turn chan struct{}
	link *link
}

// NewClient returns a client for the node with an id, which must prove that it
// is that one, at one of the addresses. An empty id stands for any member of the
// flock, as at an address that somebody typed in; whoever answers first is the
// node that must answer from then on. Link-local addresses need their zone.
// Nothing is sent yet.
func NewClient(f *trust.Flock, node string, addrs []netip.AddrPort, opts ...ClientOption) *Client {
	c := &Client{flock: f, node: node, addrs: distinct(addrs), portDials: make(chan struct{}, mostPortDials)}
	d := net.Dialer{KeepAliveConfig: keepAlive}
	c.dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr.String())
	}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	c.small.turn, c.large.turn = make(chan struct{}, 1), make(chan struct{}, 1)
	for _, o := range opts {
		o(c)
	}
	return c
}

// Connect makes sure that there is a connection, on which both sides have
// accepted each other, and returns who is there. The addresses are tried side by
// side, the next one 40 ms after the one before, so that one that cannot be
// reached costs no more than a moment; where none can, the error is
// ErrUnreachable in under a second.
func (c *Client) Connect(ctx context.Context) (trust.Peer, error) {
	ctx, stop := c.within(ctx)
	defer stop()
	l, old, err := c.link(ctx, &c.small)
	if err == nil && old { // it may have been lost without anybody seeing it
		var resp *http.Response
		if resp, l, err = c.get(ctx, &c.small, path(pathHello), nil, http.StatusOK); err == nil {
			_ = resp.Body.Close() // what it says is known
		}
	}
	if err != nil {
		return trust.Peer{}, c.explain(ctx, err)
	}
	return l.peer, nil
}

// Addr returns the address that answered last, with its zone; the zero value
// before the first.
func (c *Client) Addr() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

// Node returns the id of the node that the client talks to: the one that it was made
// for, else the one that answered first; empty before that.
func (c *Client) Node() string { return c.expected() }

// Close ends the connections, and what uses them, with ErrClosed. It can be
// called again.
func (c *Client) Close() error {
	c.end(ErrClosed)
	for _, s := range []*slot{&c.small, &c.large} {
		s.turn <- struct{}{} // whoever has it gives up at once
		if s.link != nil {
			s.link.close()
		}
		s.link = nil
		<-s.turn
	}
	return nil
}

// within returns a context that ends with the Client too.
func (c *Client) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if c.ctx.Err() != nil {
		cancel(context.Cause(c.ctx)) // at once: AfterFunc takes its time
	}
	stop := context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// expected is the id that has to answer, empty for any.
func (c *Client) expected() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node
}

// link returns the connection of a slot, and whether it was there before.
func (c *Client) link(ctx context.Context, s *slot) (l *link, old bool, err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.link != nil && s.link.http.Err() == nil {
		return s.link, true, nil
	}
	if s.link != nil {
		s.link.close()
		s.link = nil
	}
	l, err = c.race(ctx)
	if err == nil {
		err = c.settle(l)
	}
	if err != nil {
		return nil, false, err
	}
	s.link = l
	return l, false, nil
}

// settle makes the node of a new connection the one that answers from now on.
func (c *Client) settle(l *link) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node != "" && c.node != l.peer.Node { // two connections were made at once
		l.close()
		return fmt.Errorf("node %.12s answers at %s, where node %.12s answered just now: %w", l.peer.Node, l.addr, c.node, trust.ErrWrongNode)
	}
	c.node, c.addr = l.peer.Node, l.addr
	return nil
}

// drop ends a connection that is of no use any more.
func (s *slot) drop(l *link) {
	l.close()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.link == l {
		s.link = nil
	}
}

// get asks for something on the connection of a slot, which it returns too. The
// answer's body belongs to the caller; until it is closed, ctx counts. Any
// status but the wanted one is an error.
func (c *Client) get(ctx context.Context, s *slot, at func(host string) *url.URL, header http.Header, want int) (*http.Response, *link, error) {
	for {
		l, old, err := c.link(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		resp, err := l.get(ctx, at(l.host), header)
		if err == nil {
			if err = judge(resp, want); err != nil {
				_ = resp.Body.Close() // it was read
				return nil, l, err
			}
			return resp, l, nil
		}
		if ctx.Err() != nil || !old || l.http.Err() == nil {
			return nil, l, err
		}
		// The connection had been lost before anybody looked: a new one says more.
	}
}

// explain says of which node an error is, and why it really is.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ErrInvalid) {
		err = context.Cause(ctx)
	}
	err = trust.Explain(err)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("it closed the connection (%w)", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.node == "":
		return fmt.Errorf("peer: %w", err)
	case !c.addr.IsValid():
		return fmt.Errorf("peer %.12s: %w", c.node, err)
	}
	return fmt.Errorf("peer %.12s at %s: %w", c.node, c.addr, err)
}

// fetch returns the whole of a small answer.
func (c *Client) fetch(ctx context.Context, at func(host string) *url.URL, most int64) ([]byte, http.Header, error) {
	ctx, stop := c.within(ctx)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errSlow)
	defer cancel()
	resp, _, err := c.get(ctx, &c.small, at, nil, http.StatusOK)
	if err != nil {
		return nil, nil, c.explain(ctx, err)
	}
	defer resp.Body.Close()
	data, err := readAtMost(resp.Body, most)
	if err != nil {
		return nil, nil, c.explain(ctx, err)
	}
	return data, resp.Header, nil
}

// errSlow: an answer took too long as a whole.
var errSlow = fmt.Errorf("%w: no answer within %s", ErrSilent, answerTimeout.Round(time.Second))

// readAtMost reads to the end, which must come in time.
func readAtMost(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%w: more than %d bytes", ErrInvalid, most)
	}
	return data, err
}
