package mdns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
	in     chan inbound
	closed chan struct{}
}

const busLink = 1

func (b *bus) port(addr string) *port {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &port{bus: b, addr: netip.MustParseAddr(addr), in: make(chan inbound, 4096), closed: make(chan struct{})}
	b.ports = append(b.ports, p)
	return p
}

func (p *port) links() []int           { return []int{busLink} }
func (p *port) addrs(int) []netip.Addr { return []netip.Addr{p.addr} }
func (p *port) zone(int) string        { return "bus0" }
func (p *port) room(int) int           { return maxRoom }
func (p *port) copies(int) int         { return 1 }

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
	return p.bus.send(netip.AddrPortFrom(p.addr, mdnsPort), o)
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
		if o.to.IsValid() && o.to.Addr() != to.addr {
			continue
		}
		if to.addr != from.Addr() && b.lose != nil && b.lose(pkt) {
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
	cfg := config{log: slog.New(slog.DiscardHandler), ttl: DefaultTTL}
	for _, o := range opts {
		o(&cfg)
	}
	p := b.port(addr)
	d := start(cfg, p)
	t.Cleanup(func() { d.Close() })
	return d, p
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

// bubble runs a test on a bus, in time that passes only when all wait.
func bubble(t *testing.T, f func(t *testing.T, b *bus)) {
	synctest.Test(t, func(t *testing.T) { f(t, &bus{}) })
}

func TestAnnouncedTwiceThenSilence(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus) {
		a, _ := b.node(t, "192.0.2.1")
		start := time.Now()
		announce(t, a, replica(1, "web"))
		time.Sleep(time.Hour)
		sent := b.sent(start)
		if len(sent) != 2 || sent[0].at != start || sent[1].at.Sub(start) != time.Second {
			t.Fatalf("sent %d packets, %v, want two, one second apart", len(sent), sent)
		}
		for _, s := range sent {
			if len(s.pkt.answers) != 4 {
				t.Fatalf("announced %v, want PTR, SRV, TXT and A", s.pkt.answers)
			}
			for _, r := range s.pkt.answers {
				if r.flush != (r.typ != typePTR) || r.ttl != 120 {
					t.Errorf("record %v: cache-flush %t, TTL %d", r.typ, r.flush, r.ttl)
				}
			}
		}
		now := time.Now()
		if err := a.Withdraw(t.Context(), replica(1, "").ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		bye := b.sent(now)
		if len(bye) != 1 || len(bye[0].pkt.answers) != 3 {
			t.Fatalf("the goodbye is %v", bye)
		}
		for _, r := range bye[0].pkt.answers {
			if r.ttl != 0 {
				t.Errorf("record %v of the goodbye has TTL %d", r.typ, r.ttl)
			}
		}
	})
}

func TestWithdrawWithinTheSecond(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus) {
		a, _ := b.node(t, "192.0.2.1")
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		announce(t, a, replica(1, "web"))
		time.Sleep(500 * time.Millisecond)
		if err := a.Withdraw(t.Context(), replica(1, "").ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got, want := y.String(), "added web 7946;removed web 7946;"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// D2: a host that dies without a goodbye disappears when its TTL is over.
func TestKilledHostExpires(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus) {
		a, plug := b.node(t, "192.0.2.1", WithTTL(9*time.Second))
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		announce(t, a, replica(1, "web"))
		time.Sleep(time.Minute) // refreshed several times meanwhile
		if got, want := y.String(), "added web 7946;"; got != want {
			t.Fatalf("events %q, want %q", got, want)
		}
		plug.unplug()
		killed := time.Now()
		time.Sleep(time.Minute)
		if got, want := y.String(), "added web 7946;removed web 7946;"; got != want {
			t.Fatalf("events %q, want %q", got, want)
		}
		if d := y.at[1].Sub(killed); d > 10*time.Second {
			t.Errorf("removed %v after the death, want at most 10s", d)
		}
	})
}

// RFC 6762 section 5.2: queries after 1, 2, 4 … seconds, at most an hour apart.
func TestQueriesBackOff(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus) {
		a, _ := b.node(t, "192.0.2.1")
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := a.Browse(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		var gaps []time.Duration
		last := start
		for _, s := range b.sent(start) {
			gaps = append(gaps, s.at.Sub(last))
			last = s.at
		}
		if first := gaps[0]; first < 20*time.Millisecond || first > 120*time.Millisecond {
			t.Errorf("the first query came after %v, want 20 to 120 ms", first)
		}
		for i, g := range gaps[1:] {
			if want := min(time.Second<<i, time.Hour); g != want {
				t.Errorf("gap %d is %v, want %v", i+1, g, want)
			}
		}
		if len(gaps) < 30 {
			t.Errorf("%d queries in a day", len(gaps))
		}
		cancel()
		synctest.Wait()
		end := time.Now()
		time.Sleep(24 * time.Hour)
		if n := len(b.sent(end)); n > 0 {
			t.Errorf("%d packets in a day without a browser", n)
		}
	})
}

// D5: twenty hosts that browse and announce are quiet when nothing happens.
func TestNoQueryStorm(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus) {
		const hosts = 20
		diaries := make([]diary, hosts)
		for i := range hosts {
			d, _ := b.node(t, fmt.Sprintf("192.0.2.%d", i+1))
			diaries[i].write(t, d)
			announce(t, d, replica(i+1, "web"))
			time.Sleep(3 * time.Second)
		}
		time.Sleep(time.Minute)
		start := time.Now()
		const period = 20 * time.Minute
		time.Sleep(period)
		n, bytes := 0, 0
		for _, s := range b.sent(start) {
			n++
			bytes += s.size
		}
		t.Logf("%d hosts, idle: %.2f packets and %.0f bytes a second", hosts, float64(n)/period.Seconds(), float64(bytes)/period.Seconds())
		if n == 0 || float64(n)/period.Seconds() >= 5 {
			t.Errorf("%d packets in %v: want some, and fewer than 5 a second", n, period)
		}
		for i := range diaries {
			diaries[i].mu.Lock()
			if len(diaries[i].events) != hosts {
				t.Errorf("host %d had %d events, want one for each of %d hosts and no more", i, len(diaries[i].events), hosts)
			}
			diaries[i].mu.Unlock()
		}
	})
}

// A hundred replicas of one host need few packets, and lost ones come later.
func TestManyReplicasAndLoss(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus) {
		a, _ := b.node(t, "192.0.2.1")
		for i := range 100 {
			announce(t, a, replica(i+1, "web"))
		}
		time.Sleep(10 * time.Second)
		start := time.Now()
		lost := 0
		b.lose = func(p packet) bool {
			if p.response && lost < 10 {
				lost++
				return true
			}
			return false
		}
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		time.Sleep(900 * time.Millisecond)
		if n := len(b.sent(start)); n > 60 {
			t.Errorf("%d packets for 100 replicas", n)
		}
		for _, s := range b.sent(start) {
			if s.size > maxRoom {
				t.Errorf("packet of %d bytes, and %d fit into a frame", s.size, maxRoom)
			}
		}
		if lost == 0 {
			t.Error("nothing was lost: this test shows nothing")
		}
		time.Sleep(10 * time.Second)
		y.mu.Lock()
		defer y.mu.Unlock()
		if len(y.events) != 100 {
			t.Errorf("%d of 100 replicas seen", len(y.events))
		}
	})
}

// What others leave out of an answer is asked for.
func TestMissingPartsAreAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus) {
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		a, _ := b.node(t, "192.0.2.1")
		b.lose = func(p packet) bool { // everything with a PTR record that says more
			return p.response && p.answers[0].typ == typePTR && len(p.answers)+len(p.others) > 1
		}
		announce(t, a, replica(1, "web"))
		time.Sleep(2 * time.Second)
		ptr := record{name: serviceName, typ: typePTR, ttl: 120, target: instanceName(replica(1, "web"))}
		data, err := packet{response: true, answers: []record{ptr}}.pack()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := b.send(netip.MustParseAddrPort("192.0.2.1:5353"), outgoing{data: data}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond) // its records were on the wire within the last second
		if got, want := y.String(), "added web 7946;"; got != want {
			t.Errorf("events %q, want %q; sent %v", got, want, b.sent(start))
		}
	})
}
