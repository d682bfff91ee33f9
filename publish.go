package budgie

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
)

// A publication is the published ports of one container: a frontend for each,
// whose backends are the container, while it serves, and the service's replicas on
// other nodes. The frontends stay open while the container restarts, so that nobody
// else takes the port and clients get an answer that says what is going on, as far
// as their protocol has one. Its methods may be called concurrently.
type publication struct {
	id, service string
	ports       []publishedPort
	tunnels     *tunnels
	// unfollow ends the following of the other replicas, and forget the counting.
	unfollow, forget func()
	// observer is told of the ports' traffic.
	observer balance.Observer

	mu    sync.Mutex
	local []runtime.Address
	// preferLocal directs traffic elsewhere only while the container itself is not
	// healthy or does not accept it.
	preferLocal bool
	// weight is the container's own.
	weight int
	// sick is true while the container's health check fails.
	sick     bool
	replicas map[string]peer.Container // on other nodes, those that serve
}

type publishedPort struct {
	endpoint lifecycle.Endpoint
	frontend balance.Frontend
	held     *heldSocket
}

// publish opens the container's published ports, once.
func (k *keeper) publish(ctx context.Context, rec lifecycle.Container) error {
	if k.pub != nil {
		return nil
	}
	pub := &publication{
		id: rec.ID, service: rec.ServiceID, preferLocal: rec.Spec.Balance.Prefer == bunfile.PreferLocal, weight: rec.Share(), tunnels: newTunnels(k.c.openFlock),
		unfollow: func() {}, forget: func() {}, replicas: make(map[string]peer.Container),
	}
	if len(rec.Spec.Ports) > 0 {
		meter := k.c.meters.add(rec.ID)
		pub.forget = func() { k.c.meters.remove(rec.ID, meter) }
		pub.observer = balance.Observers(append(slices.Clone(k.c.cfg.observers), meter)...)
	}
	for _, port := range rec.Spec.Ports {
		p, err := k.open(ctx, rec, port, pub)
		if err != nil {
			pub.shutdown(ctx)
			return err
		}
		pub.ports = append(pub.ports, p)
	}
	k.pub = pub
	if len(pub.ports) > 0 {
		k.followReplicas(pub)
	}
	return nil
}

// open opens one published port.
func (k *keeper) open(ctx context.Context, rec lifecycle.Container, port bunfile.Port, pub *publication) (publishedPort, error) {
	cfg := balance.Config{
		Name: rec.Name, Mode: balanceMode(rec.Spec, port),
		Algorithm: rec.Spec.Balance.Algorithm, SlowStart: rec.Spec.Balance.SlowStart.Std(),
		Observer: pub.observer,
	}
	var socket io.Closer
	var err error
	if cfg.Mode == bunfile.ModeHTTP {
		cfg.Protocol, cfg.Hash = rec.Spec.Balance.Protocol, rec.Spec.Balance.Hash
	}
	if cfg.Mode == balance.ModeUDP {
		cfg.PacketConn, err = bind(ctx, rec, port, inherited(k.c, "udp", &cfg.Hold, listenUDP))
		cfg.Dial, socket = pub.tunnels.dialDatagrams, cfg.PacketConn
	} else {
		cfg.Listener, err = bind(ctx, rec, port, inherited(k.c, "tcp", &cfg.Hold, listenTCP))
		cfg.Dial, socket = pub.tunnels.dial, cfg.Listener
	}
	if err != nil {
		return publishedPort{}, err
	}
	f, err := k.c.balancer.Listen(ctx, cfg)
	if err != nil {
		return publishedPort{}, errors.Join(err, socket.Close())
	}
	held := k.c.holdFrontend(k.scope(), rec.Bind, socket, f)
	return publishedPort{frontend: f, held: held, endpoint: lifecycle.Endpoint{
		ContainerPort: port.ContainerPort,
		Protocol:      protocolOf(port),
		Host:          rec.Bind,
		Port:          portOf(f.Addr()),
		HTTP:          cfg.Mode == bunfile.ModeHTTP,
	}}, nil
}

// bind opens the socket of a published port. Where any port will do, it is the
// one that the container had before, if that is free, so that clients find it
// again.
func bind[S any](ctx context.Context, rec lifecycle.Container, port bunfile.Port, listen func(context.Context, string) (S, error)) (S, error) {
	if port.HostPort == 0 {
		for _, e := range rec.Endpoints {
			if e.ContainerPort == port.ContainerPort && e.Protocol == protocolOf(port) {
				s, err := listen(ctx, net.JoinHostPort(rec.Bind, strconv.Itoa(e.Port)))
				if err == nil {
					return s, nil
				}
			}
		}
	}
	s, err := listen(ctx, net.JoinHostPort(rec.Bind, strconv.Itoa(port.HostPort)))
	if err != nil {
		return s, fmt.Errorf("host port %s %w", portWord(port), explainListen(err, "host_port"))
	}
	return s, nil
}

// portWord names a host port as people write it.
func portWord(port bunfile.Port) string {
	word := strconv.Itoa(port.HostPort)
	if port.Protocol == bunfile.UDP {
		word += "/udp"
	}
	return word
}

// protocolOf returns a port's protocol, which is TCP where it says nothing.
func protocolOf(port bunfile.Port) bunfile.Protocol {
	if port.Protocol == bunfile.UDP {
		return bunfile.UDP
	}
	return bunfile.TCP
}

// listenTCP opens a socket for a frontend. Go's own choice, Multipath TCP, takes
// no socket filter, by which a frontend that shuts down keeps newcomers off.
func listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, "tcp", addr)
}

// listenUDP opens a socket for a frontend of a UDP port.
func listenUDP(ctx context.Context, addr string) (net.PacketConn, error) {
	return new(net.ListenConfig).ListenPacket(ctx, "udp", addr)
}

// explainListen says what to do about the error of a Listen, in words that go
// after the name of the port. setting is what chooses the port.
func explainListen(err error, setting string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("is taken: stop the program that uses it, or choose another %s: %w", setting, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("needs privileges: run as root, or choose a %s from 1024 on: %w", setting, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot be opened on an address that is not this machine's: %w", err)
	}
	return fmt.Errorf("cannot be opened: %w", err)
}

// balanceMode says which protocol the proxy in front of a container's port
// speaks.
func balanceMode(spec bunfile.Spec, port bunfile.Port) bunfile.BalanceMode {
	switch m := spec.Balance.Mode; {
	case port.Protocol == bunfile.UDP:
		return balance.ModeUDP
	case m == bunfile.ModeHTTP || m == bunfile.ModeTCP:
		return m
	case spec.Healthcheck != nil && spec.Healthcheck.Path != "":
		return bunfile.ModeHTTP
	}
	return bunfile.ModeTCP
}

// endpoints returns where a container is published, in the order of its
// ports.
func (k *keeper) endpoints() []lifecycle.Endpoint {
	var eps []lifecycle.Endpoint
	if k.pub != nil {
		for _, p := range k.pub.ports {
			eps = append(eps, p.endpoint)
		}
	}
	return eps
}

// setLocal says where the container itself serves, nowhere where addrs is empty, and
// whether its health check fails. It may be called on a nil publication.
func (p *publication) setLocal(addrs []runtime.Address, sick bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.local, p.sick = addrs, sick
	p.direct()
}

// shutdown closes the published ports. What is under way may go on until ctx
// ends.
func (p *publication) shutdown(ctx context.Context) {
	defer p.forget()
	defer p.unfollow()
	var wg sync.WaitGroup
	for _, port := range p.ports {
		port.held.forget()
		wg.Go(func() { _ = port.frontend.Shutdown(ctx) }) // the error only says that time was over
	}
	wg.Wait()
}

// unpublish closes the published ports, if they are open. Where another process
// serves them, what is under way ends in the background.
func (k *keeper) unpublish(ctx context.Context) {
	pub := k.pub
	if pub == nil {
		k.leaveLingering()
		return
	}
	k.pub = nil
	if !k.handed.Load() {
		k.leaveLingering()
		pub.shutdown(ctx)
		return
	}
	leave := k.lingering
	k.lingering = nil
	k.c.hand.draining.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), k.grace())
		defer cancel()
		defer afterClosed(k.c.killed, cancel)()
		var wg sync.WaitGroup
		wg.Go(func() { k.drainTunnels(ctx) })
		pub.shutdown(ctx)
		wg.Wait()
		if leave != nil {
			leave()
		}
	})
}

// reflect makes the published ports and the announcement say what a record
// says: traffic goes to a container that became ready, and the network knows
// of one that is not unhealthy either.
func (k *keeper) reflect(ctx context.Context, rec lifecycle.Container) {
	serving := rec.State == lifecycle.Running && rec.Ready && k.current != nil
	var addrs []runtime.Address
	if serving {
		addrs = k.current.addrs
	}
	k.setServing(addrs)
	k.pub.setLocal(addrs, rec.Health == lifecycle.Unhealthy)
	if serving && rec.Health != lifecycle.Unhealthy && rec.Desired == lifecycle.WantRunning {
		k.announce(ctx, rec)
	} else {
		k.withdraw(ctx)
	}
}

// announceTimeout bounds one word to the network: traffic and stops must not
// wait for it.
const announceTimeout = 5 * time.Second

// announce tells the network of the container, if it does not know yet, or of
// another flock. What cannot be announced runs all the same: this machine can
// serve it.
func (k *keeper) announce(ctx context.Context, rec lifecycle.Container) {
	in := k.c.flockChanges.Load()
	if k.announced && k.announcedIn == in {
		return
	}
	// Whatever happens: tried once per time it becomes ready.
	k.announced, k.announcedIn = true, in
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	d, err := k.c.disc()
	if d == nil && err == nil {
		return
	}
	if err == nil {
		var svc discovery.Service
		if svc, err = k.c.announcement(ctx, rec); err == nil {
			k.whileWanted(ctx, func(ctx context.Context) { err = d.Announce(ctx, svc) })
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		k.log.Warn("the container runs, but cannot be announced on the network", "error", err)
	}
}

// withdraw takes the announcement back, if there is one.
func (k *keeper) withdraw(ctx context.Context) {
	if !k.announced {
		return
	}
	k.announced = false
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	d, err := k.c.disc()
	if d == nil || err != nil {
		return
	}
	if err := d.Withdraw(ctx, k.id); err != nil && !errors.Is(err, discovery.ErrClosed) {
		k.log.Warn("cannot take the announcement back", "error", err)
	}
}

// announcement returns what is announced of a container, and opens the endpoint
// at which others can have it proved.
func (c *Client) announcement(ctx context.Context, rec lifecycle.Container) (discovery.Service, error) {
	node, flock, err := c.whoami()
	if err != nil {
		return discovery.Service{}, err
	}
	port, err := c.endpoint(ctx)
	if err != nil {
		c.log.Warn("other nodes cannot join, nor balance to, the containers of this one", "error", err)
	}
	s := discovery.Service{
		ID: rec.ID, ServiceID: rec.ServiceID, Name: rec.Name, Image: rec.Spec.Image.DockerImage, Node: node, Flock: flock, PeerPort: port,
	}
	s.Ports = portsOf(rec.Endpoints)
	return s, nil
}

// portsOf returns what is announced of published ports.
func portsOf(endpoints []lifecycle.Endpoint) []discovery.Port {
	var ports []discovery.Port
	for _, e := range endpoints {
		ports = append(ports, discovery.Port{
			ContainerPort: e.ContainerPort, HostPort: e.Port, Protocol: e.Protocol, HTTP: e.HTTP,
		})
	}
	return ports
}

// portOf returns the port of a TCP or UDP address, 0 for any other.
func portOf(a net.Addr) int {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	return 0
}
