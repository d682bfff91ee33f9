package mdns

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
)

// bus is a link in memory, for tests on a clock of their own.
type bus struct {
	mu    sync.Mutex
	ports []*port
	// log is every packet that was sent, with its time.
	log []sighting
	// lose, if set, decides which packets are lost on their way to others.
	lose func(p packet) bool
}

// sighting is a packet on the bus.
type sighting struct {
	at   time.Time
	from netip.AddrPort
	to   netip.AddrPort
	pkt  packet
	size int
}

// port is a node's transport on a bus.
type port struct {
	bus    *bus
	addr   netip.Addr
	others []netip.Addr // of the machine, on interfaces that are not on the bus
	in     chan inbound
	closed chan struct{}
	news   chan struct{}

	mu sync.Mutex
	// gone: the interface is down.
	gone bool
}

const busLink = 1

func (b *bus) port(addr string) *port {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &port{bus: b, addr: netip.MustParseAddr(addr), in: make(chan inbound, 4096), closed: make(chan struct{}), news: make(chan struct{}, 1)}
	b.ports = append(b.ports, p)
	return p
}

// change changes the interface of a node.
func (p *port) change(addr string, gone bool) {
	p.bus.mu.Lock() // the bus asks for addresses under its lock
	p.mu.Lock()
	p.addr, p.gone = netip.MustParseAddr(addr), gone
	p.mu.Unlock()
	p.bus.mu.Unlock()
	p.news <- struct{}{}
}

func (p *port) now() (addr netip.Addr, gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr, p.gone
}

func (p *port) changed() <-chan struct{} { return p.news }
func (p *port) look()                    {}

func (p *port) links() []int {
	if _, gone := p.now(); gone {
		return nil
	}
	return []int{busLink}
}

func (p *port) addrs(int) []netip.Addr {
	addr, _ := p.now()
	return []netip.Addr{addr}
}

func (p *port) local() []netip.Addr { return append(p.addrs(0), p.others...) }
func (p *port) zone(int) string     { return "bus0" }
func (p *port) room(int) int        { return maxRoom }
func (p *port) copies(int) int      { return 1 }

func (p *port) receive(deliver func(inbound)) {
	for {
		select {
		case in := <-p.in:
			deliver(in)
		case <-p.closed:
			return
		}
	}
}

func (p *port) send(o outgoing) error {
	addr, _ := p.now()
	return p.bus.send(netip.AddrPortFrom(addr, mdnsPort), o)
}

// send puts a packet on the bus, from whomever.
func (b *bus) send(from netip.AddrPort, o outgoing) error {
	pkt, err := parse(o.data)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.log = append(b.log, sighting{time.Now(), from, o.to, pkt, len(o.data)})
	}
	for _, to := range b.ports {
		addr, gone := to.now()
		if gone || o.to.IsValid() && o.to.Addr() != addr {
			continue
		}
		if addr != from.Addr() && b.lose != nil && b.lose(pkt) {
			continue
		}
		select {
		case to.in <- inbound{link: busLink, from: from, multicast: !o.to.IsValid(), data: o.data}:
		default:
			return errors.New("the queue of a node is full")
		}
	}
	return nil
}

func (p *port) close() error {
	close(p.closed)
	p.unplug()
	return nil
}

// unplug takes the node off the bus without a word.
func (p *port) unplug() {
	p.bus.mu.Lock()
	defer p.bus.mu.Unlock()
	for i, o := range p.bus.ports {
		if o == p {
			p.bus.ports = append(p.bus.ports[:i], p.bus.ports[i+1:]...)
			return
		}
	}
}

// sent returns the packets since a time.
func (b *bus) sent(since time.Time) []sighting {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []sighting
	for _, s := range b.log {
		if !s.at.Before(since) {
			list = append(list, s)
		}
	}
	return list
}

// node is a Discoverer on a bus.
func (b *bus) node(t *testing.T, addr string, opts ...Option) (*Discoverer, *port) {
	t.Helper()
	p := b.port(addr)
	return b.start(t, p, opts...), p
}

// start returns a Discoverer on a port.
func (b *bus) start(t *testing.T, p *port, opts ...Option) *Discoverer {
	t.Helper()
	cfg := config{log: slog.New(slog.DiscardHandler), ttl: DefaultTTL}
	for _, o := range opts {
		o(&cfg)
	}
	d := start(cfg, p)
	t.Cleanup(func() { d.Close() })
	return d
}

func service(n int, name string) discovery.Service {
	return discovery.Service{
		ID: fmt.Sprintf("%064x", n), ServiceID: "shop", Name: name, Node: "node", PeerPort: 7946,
		Ports: []discovery.Port{{ContainerPort: 80, HostPort: 8080, Protocol: bunfile.TCP}},
	}
}

// instanceOf makes ids differ in what instance names show of them.
func replica(n int, name string) discovery.Service {
	s := service(0, name)
	s.ID = fmt.Sprintf("%012x", n) + strings.Repeat("0", 52)
	return s
}

func announce(t *testing.T, d *Discoverer, s discovery.Service) {
	t.Helper()
	if err := d.Announce(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// record of events with their times.
type diary struct {
	mu     sync.Mutex
	events []discovery.Event
	at     []time.Time
}

// write browses and notes what comes, until the channel closes.
func (y *diary) write(t *testing.T, d *Discoverer) {
	t.Helper()
	events, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for e := range events {
			y.mu.Lock()
			y.events, y.at = append(y.events, e), append(y.at, time.Now())
			y.mu.Unlock()
		}
	}()
}

func (y *diary) String() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	var b strings.Builder
	for _, e := range y.events {
		fmt.Fprintf(&b, "%v %s %d;", e.Type, e.Service.Name, e.Service.PeerPort)
	}
	return b.String()
}
