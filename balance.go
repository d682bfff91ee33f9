package budgie

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/peer"
)

// BalanceOption changes one [Client.Balance].
type BalanceOption func(*balance.Config)

// WithAlgorithm sets how a backend is chosen; the default is round-robin.
func WithAlgorithm(a bunfile.Algorithm) BalanceOption {
	return func(c *balance.Config) { c.Algorithm = a }
}

// WithHash sets which requests belong together, for the algorithm
// consistent-hash; the default is those of one client address. With another
// algorithm [Client.Balance] fails with [balance.ErrInvalid].
func WithHash(h bunfile.Hash) BalanceOption { return func(c *balance.Config) { c.Hash = h } }

// WithMode sets which protocol the proxy speaks: HTTP, TCP, or with [balance.ModeUDP]
// UDP, of which the address that [Client.Balance] serves is one then; the default is
// HTTP.
func WithMode(m bunfile.BalanceMode) BalanceOption { return func(c *balance.Config) { c.Mode = m } }

// WithProtocol sets which version of HTTP replicas are spoken to by in mode HTTP;
// the default is HTTP/1.1, and HTTP/2 without TLS for calls by gRPC.
func WithProtocol(p bunfile.BackendProtocol) BalanceOption {
	return func(c *balance.Config) { c.Protocol = p }
}

// WithSlowStart sets the time over which a replica that is new, or came back, gets to
// its full share; the default is that it has it at once.
func WithSlowStart(d time.Duration) BalanceOption {
	return func(c *balance.Config) { c.SlowStart = d }
}

// WithTLS lets clients speak TLS in mode HTTP, with HTTP/2 or HTTP/1.1 as they
// negotiate; the default is no TLS.
func WithTLS(t *tls.Config) BalanceOption { return func(c *balance.Config) { c.TLS = t } }

// WithLimits bounds what clients may take; the default is the zero value's.
func WithLimits(l balance.Limits) BalanceOption { return func(c *balance.Config) { c.Limits = l } }

// The pace of the checks of discovered replicas. They only have to notice what
// neither traffic nor the replica's own node tells, but that within 3 s: up to
// one interval passes until the first probe, and three have to fail.
const (
	replicaCheckInterval = 600 * time.Millisecond
	replicaCheckTimeout  = 600 * time.Millisecond
)

// Balance serves addr (host:port; port 0 is any free one) with the replicas of
// a service: those containers that are announced under the given name, or
// whose id or service id begins with it. Where several services have the name it uses
// all of them, and logs a warning. Replicas join and leave the pool as
// they come and go on the network. The frontend lives until ctx ends, which
// lets requests under way end for 10 s, or until its Shutdown. Balance does not
// wait for replicas: until the first is found, requests get status 503, and
// datagrams are dropped.
//
// It uses the first TCP port of each replica, in [balance.ModeUDP] (see [WithMode]) the
// first UDP port, and leaves those without one aside. Options that mean nothing in the
// mode, such as [WithTLS] and [WithLimits] for UDP or [WithHash] for
// all but HTTP, give [balance.ErrInvalid].
//
// Announcements are unproved. Balance uses replicas of nodes that proved over
// mutual TLS to be in this machine's flock, by what such a node itself says of
// them, and leaves them within seconds when the node falls silent. Their traffic
// goes by connections of the same kind, through the node, to the container itself; so
// does that of this machine's own replicas. Of others, it uses those on addresses of this machine, at their published ports,
// and leaves the rest aside.
func (c *Client) Balance(ctx context.Context, name, addr string, opts ...BalanceOption) (balance.Frontend, error) {
	if name == "" {
		return nil, errors.New("balance: the name of the service is empty")
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	cfg := c.balanceConfig(name, opts)
	t := newTunnels(c.openFlock)
	socket, taking, err := c.openBalance(ctx, &cfg, addr, t)
	if err != nil {
		return nil, fmt.Errorf("balance %s: address %s %w", name, addr, explainListen(err, "address"))
	}
	if taking != nil {
		defer taking.end()
	}
	f, err := c.balancer.Listen(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	call, found, of := ctx, make(chan struct{}), balanced{name, transportOf(cfg.Mode)}
	ctx, end := c.whileOpen(ctx)
	events, err := c.browse(ctx)
	if err == nil && !c.spawn(func() { c.feed(ctx, f, of, events, t, sync.OnceFunc(func() { close(found) })) }) {
		err = ErrClosed
	}
	if err == nil && taking != nil {
		err = taking.awaitReplicas(call, found)
	}
	if err != nil {
		end()
		return nil, errors.Join(err, f.Shutdown(ctx))
	}
	held := c.holdFrontend(balanceScope(f.Addr().Network(), f.Addr().String()), "", socket, f)
	context.AfterFunc(ctx, held.forget)
	return &fedFrontend{Frontend: f, end: end, held: held}, nil
}

// balanceConfig returns what the options make of the defaults, without what depends on
// the socket. The check is a default of those modes alone that have one.
func (c *Client) balanceConfig(name string, opts []BalanceOption) balance.Config {
	check := &balance.Check{Interval: replicaCheckInterval, Timeout: replicaCheckTimeout}
	cfg := balance.Config{
		Name: name, Mode: bunfile.ModeHTTP, Algorithm: bunfile.RoundRobin,
		Check: check, Observer: balance.Observers(c.cfg.observers...),
	}
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.Mode == balance.ModeUDP && cfg.Check == check {
		cfg.Check = nil
	}
	return cfg
}

// openBalance opens the socket that the mode of a Balance needs, or takes it over; then
// taking is not nil, and the frontend is held.
func (c *Client) openBalance(ctx context.Context, cfg *balance.Config, addr string, t *tunnels) (socket io.Closer, taking *taking, err error) {
	if cfg.Mode == balance.ModeUDP {
		cfg.Dial = t.dialDatagrams
		cfg.PacketConn, taking, err = listenOrTake(ctx, c, "udp", addr, &cfg.Hold, listenUDP)
		return cfg.PacketConn, taking, err
	}
	cfg.Dial = t.dial
	cfg.Listener, taking, err = listenOrTake(ctx, c, "tcp", addr, &cfg.Hold, listenTCP)
	return cfg.Listener, taking, err
}

// balanced is what a Balance serves: the replicas of the service that a name means, at
// their first port of a transport.
type balanced struct {
	name     string
	protocol bunfile.Protocol
}

// transportOf returns what a frontend of a mode uses of the replicas' ports.
func transportOf(m bunfile.BalanceMode) bunfile.Protocol {
	if m == balance.ModeUDP {
		return bunfile.UDP
	}
	return bunfile.TCP
}

// fedFrontend is a frontend that gets its backends from discovery, until it is
// shut down.
type fedFrontend struct {
	balance.Frontend
	end  context.CancelFunc
	held *heldSocket
}

// Shutdown ends the browsing too.
func (f *fedFrontend) Shutdown(ctx context.Context) error {
	defer f.end()
	f.held.forget()
	return f.Frontend.Shutdown(ctx)
}

// feed keeps a frontend's backends equal to the service's replicas until ctx
// ends. It calls found when there are some.
func (c *Client) feed(ctx context.Context, f balance.Frontend, of balanced, events <-chan discovery.Event, t *tunnels, found func()) {
	defer t.close()
	backends := make(map[string]balance.Backend)
	services, said := make(map[string]string), false // of the backends
	var r *roster
	r = c.newRoster(0, func(id string) {
		if b, ok := c.backend(r, t, id, of); ok {
			backends[id], services[id] = b, r.hints[id].ServiceID
		} else {
			delete(backends, id)
			delete(services, id)
		}
		if several := slices.Compact(slices.Sorted(maps.Values(services))); len(several) > 1 && !said {
			said = true
			c.log.Warn("the name means more than one service, which share the requests; the beginning of a service's id means one",
				"name", of.name, "services", several)
		}
		f.Update(slices.Collect(maps.Values(backends)))
		if len(backends) > 0 {
			found()
		}
	})
	r.own = true // its published ports would balance once more
	r.run(ctx, only(ctx, events, isReplica))
	drain, cancel := context.WithTimeout(context.Background(), bunfile.DefaultStopTimeout)
	defer cancel()
	_ = f.Shutdown(drain) // the error only says that time was over
}

// means reports whether ref means a service: by its name, or by enough of an
// id not to be taken for one.
func means(ref, name, id, service string) bool {
	return name == ref || len(ref) >= minIDPrefix && (strings.HasPrefix(id, ref) || strings.HasPrefix(service, ref))
}

// minIDPrefix is how many characters of an id say which service is meant.
const minIDPrefix = 12

// backend returns where a replica serves, if it is one of those that are balanced, and
// may be used.
func (c *Client) backend(r *roster, t *tunnels, id string, of balanced) (balance.Backend, bool) {
	s, present := r.hints[id]
	if _, _, ours, _ := r.proved(id); ours || !present {
		told, ok := t.follow(r, id, func(c peer.Container) bool {
			return servedPort(c, of.protocol) != 0 && means(of.name, c.Name, c.ID, c.ServiceID)
		})
		return balance.Backend{ID: id, Addr: t.addr(id, servedPort(told, of.protocol), of.protocol), Weight: told.Weight}, ok
	}
	if !means(of.name, s.Name, s.ID, s.ServiceID) {
		return balance.Backend{}, false
	}
	port := 0
	for _, p := range s.Ports {
		if sameTransport(p.Protocol, of.protocol) {
			port = p.HostPort
			break
		}
	}
	addr, ok := firstOwn(s.Addrs, ownAddrs())
	if port == 0 || !ok {
		c.log.Debug("leaving a replica aside", "replica", s.ID, "addresses", s.Addrs, "port", port)
		return balance.Backend{}, false
	}
	return balance.Backend{ID: id, Addr: net.JoinHostPort(addr.String(), strconv.Itoa(port))}, true
}

// servedPort returns the first port of a protocol that a replica publishes, by its number
// in the container, 0 without one.
func servedPort(c peer.Container, protocol bunfile.Protocol) int {
	for _, e := range c.Endpoints {
		if sameTransport(e.Protocol, protocol) {
			return e.ContainerPort
		}
	}
	return 0
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
