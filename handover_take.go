package budgie

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/budgiehq/budgie/internal/handover"
	"github.com/budgiehq/budgie/lifecycle"
)

// TakingOver makes Supervise take the place of the process that supervises already, where
// that was given [WithHandOver], without a connection to a published port refused: this
// process accepts before the other one stops accepting, and that one's Supervise returns
// [ErrReplaced]. Where this one fails before it serves, the other one goes on, and the
// error says why. Where nobody supervises there is nothing to take; from one that does
// not hand over, as on other systems than Linux, the error is [ErrSupervised].
func TakingOver() SuperviseOption { return func(c *superviseConfig) { c.takeOver = true } }

// How long a container may take to be taken on, and an address to have replicas. The
// giver waits for a minute.
const (
	settleTimeout  = 20 * time.Second
	replicaTimeout = 15 * time.Second
)

// taking is what a client is taking over from another process.
type taking struct {
	c       *Client
	offered *handover.Offered
	// accept is closed when TCP frontends may accept, and alone when the other process
	// does not take anything any more, which those of UDP wait for.
	accept, alone chan struct{}
	end           func() // once

	mu sync.Mutex
	// sockets are those that nobody uses so far, by their names.
	sockets map[string]handover.Socket
}

// take asks for what is wanted, and has the other process let go of it. It returns
// handover.ErrNone where nobody has it, or hands it over.
func (c *Client) take(ctx context.Context, want string) (*taking, error) {
	offered, err := handover.Ask(ctx, c.handOverDir(), want)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, handover.ErrNone
	}
	if err != nil {
		return nil, err
	}
	t := &taking{c: c, offered: offered, accept: make(chan struct{}), alone: make(chan struct{}), sockets: make(map[string]handover.Socket)}
	t.end = sync.OnceFunc(func() {
		c.hand.mu.Lock()
		if c.hand.taking == t {
			c.hand.taking = nil
		}
		c.hand.mu.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, s := range t.sockets {
			s.Close()
		}
		clear(t.sockets)
		_ = offered.Close() // all is said
	})
	c.hand.mu.Lock()
	busy := c.hand.taking != nil
	if !busy {
		c.hand.taking = t
	}
	c.hand.mu.Unlock()
	if busy {
		return nil, errors.Join(errors.New("this client is taking something over already"), offered.Close())
	}
	sockets, err := offered.Release(c.owner)
	if err != nil {
		t.end()
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range sockets {
		t.sockets[s.Name] = s
	}
	return t, nil
}

// inherit returns a socket that is being taken over, with what holds its frontend.
func (h *handOver) inherit(name string) (s handover.Socket, hold <-chan struct{}, ok bool) {
	h.mu.Lock()
	t := h.taking
	h.mu.Unlock()
	if t == nil {
		return s, nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok = t.sockets[name]; !ok {
		return s, nil, false
	}
	delete(t.sockets, name)
	if s.PacketConn != nil {
		return s, t.alone, true
	}
	return s, t.accept, true
}

// serve makes this client accept, and then the other process stop accepting. The error
// says that the other one is not there any more, which changes nothing.
func (t *taking) serve() {
	close(t.accept)
	if err := t.offered.Serve(); err != nil {
		t.c.log.Warn("who served before is gone", "error", err)
	}
	close(t.alone)
	t.end()
}

// serveSettled serves when keepers have taken their containers on.
func (t *taking) serveSettled(ctx context.Context, keepers []*keeper) error {
	late := time.NewTimer(settleTimeout)
	defer late.Stop()
	for _, k := range keepers {
		select {
		case <-k.settled:
		case <-late.C:
			why := k.lastComplaint()
			if why == "" {
				why = fmt.Sprintf("it took longer than %s", settleTimeout)
			}
			return fmt.Errorf("container %s cannot be taken over: %s", k.record().Name, why)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t.serve()
	return nil
}

// lastComplaint returns what keeps the keeper from its work, "" for nothing.
func (k *keeper) lastComplaint() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.complaint
}

// takeSupervision begins to take over from the supervisor that there is, and returns nil
// where there is none. One that does not hand over may be just beginning or dying.
func (c *Client) takeSupervision(ctx context.Context) (*taking, error) {
	const (
		look     = 20 * time.Millisecond
		patience = time.Second
	)
	for began := time.Now(); ; {
		t, err := c.take(ctx, wantSupervisor)
		if !errors.Is(err, handover.ErrNone) {
			return t, err
		}
		// Where one is being replaced, the next one will be there in a moment.
		supervised, err := c.isSupervised(ctx)
		if err != nil || !supervised {
			return nil, err
		}
		if time.Since(began) > patience {
			return nil, fmt.Errorf("%w, and does not hand over: it ends by a signal, then start this one", ErrSupervised)
		}
		if wait(ctx, look); ctx.Err() != nil {
			return nil, c.endOf(ctx)
		}
	}
}

// takeOnDetached takes the detached containers on, and serves them in place of the other
// process.
func (c *Client) takeOnDetached(ctx context.Context, s *supervision) error {
	t := s.taking
	s.taking = nil
	defer t.end()
	if _, err := c.reconcile(ctx); err != nil {
		return err
	}
	return t.serveSettled(ctx, c.keepersThat(true))
}

// TakeOver takes the containers over that another process of the same user and data
// directory runs itself, the one that ref means and all others of that process, where
// that was given [WithHandOver]. They go on as they are, under this client, as if it had
// run them with the given options, of which [OnLog] counts, for what is printed from now
// on; the context governs them as [Client.Run] says. It returns them when this process
// serves their published ports; on an error the other process goes on.
// [ErrNotFound] says that nobody runs such a container so that it can be taken over.
func (c *Client) TakeOver(ctx context.Context, ref string, opts ...RunOption) ([]lifecycle.Container, error) {
	rec, err := c.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := c.activate(ctx); err != nil {
		return nil, err
	}
	t, err := c.take(ctx, wantContainer+rec.ID)
	if errors.Is(err, handover.ErrNone) {
		return nil, fmt.Errorf("take over container %s: %w: no process that runs it hands it over", rec.Name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("take over container %s: %w", rec.Name, err)
	}
	defer t.end()
	keepers, err := c.keepOwn(ctx, newRunConfig(rec.Spec, opts))
	if err == nil {
		err = t.serveSettled(ctx, keepers)
	}
	if err != nil {
		for _, k := range keepers {
			k.leave()
			<-k.done
		}
		return nil, fmt.Errorf("take over container %s: %w", rec.Name, err)
	}
	recs := make([]lifecycle.Container, len(keepers))
	for i, k := range keepers {
		recs[i] = k.record()
	}
	return recs, nil
}

// keepOwn starts keepers for the containers that were given to this client.
func (c *Client) keepOwn(ctx context.Context, rc runConfig) (keepers []*keeper, err error) {
	recs, err := c.store.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, rec := range recs {
		if rec.Owner != c.owner || rec.Finished() || c.keeperOf(rec.ID) != nil {
			continue
		}
		k, err := c.keep(ctx, rec, true, rc.onLog)
		if err != nil {
			return keepers, err
		}
		keepers = append(keepers, k)
	}
	return keepers, nil
}

// listenOrTake opens the socket of a Balance, or takes it over from the process that has
// it; then t is not nil, and what holds the frontend is set.
func listenOrTake[S any](ctx context.Context, c *Client, network, addr string, hold *<-chan struct{}, listen func(context.Context, string) (S, error)) (socket S, t *taking, err error) {
	socket, err = listen(ctx, addr)
	if err == nil || !c.cfg.takeOver {
		return socket, nil, err
	}
	t, takeErr := c.take(ctx, balanceScope(network, addr))
	if errors.Is(takeErr, handover.ErrNone) {
		return socket, nil, err // it is somebody else's
	}
	if takeErr != nil {
		return socket, nil, takeErr
	}
	taken := func(context.Context, string) (S, error) { return socket, err }
	_, port, _ := net.SplitHostPort(canonical(network, addr)) // what is in use is an address
	if socket, err := inherited(c, network, hold, taken)(ctx, net.JoinHostPort("", port)); err == nil {
		return socket, t, nil
	}
	t.end()
	return socket, nil, err
}

// awaitReplicas serves when found is closed, or at once where the other process has
// nothing to serve either.
func (t *taking) awaitReplicas(ctx context.Context, found <-chan struct{}) error {
	if t.offered.Busy {
		late := time.NewTimer(replicaTimeout)
		defer late.Stop()
		select {
		case <-found:
		case <-late.C:
			return fmt.Errorf("no replica was found within %s, while the process that serves the address has some: it goes on", replicaTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t.serve()
	return nil
}

// balanceScope is what the socket of a Balance at an address is for. That of TCP says
// nothing of its network: versions before there was UDP do not either.
func balanceScope(network, addr string) string {
	if network == "udp" {
		return wantBalance + "udp " + canonical(network, addr)
	}
	return wantBalance + canonical(network, addr)
}

// canonical returns the form in which sockets of a network, tcp or udp, have an address,
// or the address itself where it is none.
func canonical(network, addr string) string {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if network == "udp" {
		var u *net.UDPAddr
		u, err = net.ResolveUDPAddr("udp", addr)
		a = (*net.TCPAddr)(u)
	}
	if err != nil {
		return addr
	}
	if a.IP == nil || a.IP.IsUnspecified() {
		a.IP = net.IPv6unspecified // those on all addresses have this one
	}
	return a.String()
}
