package budgie

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
)

// Discover tells what is announced on the network: first all that is there,
// then every change, until ctx or the client ends. What it tells are unproved claims.
// [discovery.Collect] turns the events of a limited time into a list.
func (c *Client) Discover(ctx context.Context) (<-chan discovery.Event, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	d, err := c.disc()
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, errors.New("discovery is switched off in this client")
	}
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(c.life, cancel)
	context.AfterFunc(ctx, func() { forget() })
	events, err := d.Browse(ctx)
	if err != nil {
		cancel()
	}
	return events, err
}

// Join will run a replica of a container that another machine announces. It
// does not exist yet and always returns [ErrJoin].
func (c *Client) Join(_ context.Context, ref string, _ ...RunOption) (lifecycle.Container, error) {
	return lifecycle.Container{}, fmt.Errorf("join %s: %w: run the .bun file on this machine instead", ref, ErrJoin)
}

// BalanceOption changes one [Client.Balance].
type BalanceOption func(*balance.Config)

// WithAlgorithm sets how a backend is chosen; the default is round-robin.
func WithAlgorithm(a bunfile.Algorithm) BalanceOption {
	return func(c *balance.Config) { c.Algorithm = a }
}

// WithMode sets which protocol the proxy speaks, HTTP or TCP; the default is
// HTTP.
func WithMode(m bunfile.BalanceMode) BalanceOption { return func(c *balance.Config) { c.Mode = m } }

// The pace of the checks of discovered replicas. They only have to notice what
// neither traffic nor the replica's own node tells.
const (
	replicaCheckInterval = time.Second
	replicaCheckTimeout  = time.Second
)

// Balance serves addr (host:port; port 0 is any free one) with the replicas of
// a service: those containers that are announced under the given name, or
// whose id or service id begins with it. Replicas join and leave the pool as
// they come and go on the network. The frontend lives until ctx ends, which
// lets requests under way end for 10 s, or until its Shutdown. Balance does not
// wait for replicas: until the first is found, requests get status 503.
//
// Announcements are unproved. Until nodes can prove to each other who they
// are, Balance only uses replicas on addresses of this machine, and leaves all
// others aside.
func (c *Client) Balance(ctx context.Context, name, addr string, opts ...BalanceOption) (balance.Frontend, error) {
	if name == "" {
		return nil, errors.New("balance: the name of the service is empty")
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	ln, err := listenTCP(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("balance %s: address %s %w", name, addr, explainListen(err, "address"))
	}
	cfg := balance.Config{
		Name: name, Listener: ln, Mode: bunfile.ModeHTTP, Algorithm: bunfile.RoundRobin,
		Check: &balance.Check{Interval: replicaCheckInterval, Timeout: replicaCheckTimeout},
	}
	for _, o := range opts {
		o(&cfg)
	}
	f, err := c.balancer.Listen(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	ctx, end := context.WithCancel(ctx)
	events, err := c.Discover(ctx)
	if err == nil && !c.spawn(func() { c.feed(ctx, f, name, events) }) {
		err = ErrClosed
	}
	if err != nil {
		end()
		return nil, errors.Join(err, f.Shutdown(ctx))
	}
	return &fedFrontend{Frontend: f, end: end}, nil
}

// fedFrontend is a frontend that gets its backends from discovery, until it is
// shut down.
type fedFrontend struct {
	balance.Frontend
	end context.CancelFunc
}

// Shutdown ends the browsing too.
func (f *fedFrontend) Shutdown(ctx context.Context) error {
	defer f.end()
	return f.Frontend.Shutdown(ctx)
}

// feed keeps a frontend's backends equal to the service's replicas until ctx
// or the client ends.
func (c *Client) feed(ctx context.Context, f balance.Frontend, name string, events <-chan discovery.Event) {
	replicas := make(map[string]discovery.Service)
	for open := true; open; {
		select {
		case <-c.life.Done():
			open = false
		case ev, ok := <-events:
			if open = ok; !ok {
				continue
			}
			if ev.Type != discovery.Removed && means(ev.Service, name) {
				replicas[ev.Service.ID] = ev.Service
			} else {
				delete(replicas, ev.Service.ID)
			}
			f.Update(c.backends(replicas))
		}
	}
	drain, cancel := context.WithTimeout(context.Background(), bunfile.DefaultStopTimeout)
	defer cancel()
	_ = f.Shutdown(drain) // the error only says that time was over
}

// means reports whether name means a service: by its name, or by enough of an
// id not to be taken for one.
func means(s discovery.Service, name string) bool {
	id := len(name) >= minIDPrefix && (strings.HasPrefix(s.ID, name) || strings.HasPrefix(s.ServiceID, name))
	return s.Name == name || id
}

// minIDPrefix is how many characters of an id say which service is meant.
const minIDPrefix = 12

// backends returns where the replicas on this machine serve.
func (c *Client) backends(replicas map[string]discovery.Service) []balance.Backend {
	own := ownAddrs()
	var backends []balance.Backend
	for _, s := range replicas {
		port := 0
		for _, p := range s.Ports {
			if p.Protocol != bunfile.UDP {
				port = p.HostPort
				break
			}
		}
		addr, ok := firstOwn(s.Addrs, own)
		if port == 0 || !ok {
			c.log.Debug("leaving a replica aside", "replica", s.ID, "addresses", s.Addrs, "port", port)
			continue
		}
		backends = append(backends, balance.Backend{ID: s.ID, Addr: net.JoinHostPort(addr.String(), strconv.Itoa(port))})
	}
	return backends
}

// firstOwn returns the first of addrs that is an address of this machine.
func firstOwn(addrs []netip.Addr, own map[netip.Addr]bool) (netip.Addr, bool) {
	for _, a := range addrs {
		if a.IsLoopback() || own[a.Unmap().WithZone("")] {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// ownAddrs returns the addresses of this machine.
func ownAddrs() map[netip.Addr]bool {
	own := make(map[netip.Addr]bool)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return own
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	return own
}
