package mdns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
)

// tap is a plain socket that hears and says what it likes on loopback.
type tap struct {
	t    *testing.T
	conn *ipv4.PacketConn
}

// newTap returns a socket on port 5353 of the group, or, if not whole, one on
// another port.
func newTap(t *testing.T, whole bool) *tap {
	t.Helper()
	var pc net.PacketConn
	var err error
	if whole {
		pc, err = bind("udp4", netip.AddrPortFrom(group4(), mdnsPort))
	} else {
		pc, err = net.ListenPacket("udp4", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	c := ipv4.NewPacketConn(pc)
	lo := loopback(t)
	if whole {
		if err := c.JoinGroup(&lo, &net.UDPAddr{IP: group4().AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.SetMulticastInterface(&lo), c.SetMulticastLoopback(true)); err != nil {
		t.Fatal(err)
	}
	return &tap{t, c}
}

func (p *tap) send(data []byte) {
	p.t.Helper()
	cm := &ipv4.ControlMessage{Src: net.IPv4(127, 0, 0, 1), IfIndex: loopback(p.t).Index}
	if _, err := p.conn.WriteTo(data, cm, &net.UDPAddr{IP: group4().AsSlice(), Port: mdnsPort}); err != nil {
		p.t.Fatal(err)
	}
}

// await returns the next packet that is ok, and when it came.
func (p *tap) await(what string, ok func(packet) bool) (packet, time.Time) {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, maxPacket)
	for {
		n, _, _, err := p.conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatalf("no %s on the wire", what)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		if pkt, err := parse(buf[:n]); err == nil && ok(pkt) {
			return pkt, time.Now()
		}
	}
}

// speaksOf reports whether a packet answers with the SRV record of a service.
func speaksOf(s discovery.Service, ttl uint32) func(packet) bool {
	return func(p packet) bool {
		for _, r := range p.answers {
			if r.typ == typeSRV && r.name == instanceName(s) && r.ttl == ttl {
				return true
			}
		}
		return false
	}
}

// established announces a service and waits until the announcement is out.
func established(t *testing.T, d *Discoverer, svc discovery.Service) {
	t.Helper()
	wire := newTap(t, true)
	announce(t, d, svc)
	wire.await("announcement", speaksOf(svc, 120))
}

func TestOnTheWire(t *testing.T) {
	t.Parallel()
	wire := newTap(t, true)
	d := open(t)
	svc := replica(unique(5), "wire")
	announce(t, d, svc)
	first, at := wire.await("first announcement", speaksOf(svc, 120))
	for _, r := range first.answers {
		if r.flush != (r.typ != typePTR) {
			t.Errorf("%v record: cache-flush bit %t", r.typ, r.flush)
		}
		if r.typ == typeA && r.addr.String() != "127.0.0.1" {
			t.Errorf("announced address %v, want loopback", r.addr)
		}
	}
	_, again := wire.await("second announcement", speaksOf(svc, 120))
	if gap := again.Sub(at); gap < 900*time.Millisecond {
		t.Errorf("the second announcement came %v after the first, want a second", gap)
	}
	changed := svc
	changed.Image = "nginx:2"
	announce(t, d, changed)
	wire.await("changed announcement", func(p packet) bool {
		for _, r := range p.answers {
			if r.typ == typeTXT && r.name == instanceName(svc) && r.flush && strings.Contains(strings.Join(r.txt, " "), "image=nginx:2") {
				return true
			}
		}
		return false
	})
	if err := d.Withdraw(t.Context(), svc.ID); err != nil {
		t.Fatal(err)
	}
	wire.await("goodbye of Withdraw", speaksOf(svc, 0))
	announce(t, d, svc)
	wire.await("return", speaksOf(svc, 120))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	bye, _ := wire.await("goodbye of Close", speaksOf(svc, 0))
	if last := bye.answers[len(bye.answers)-1]; last.typ != typeA || last.ttl != 0 {
		t.Errorf("Close said %v, want the address gone too", bye.answers)
	}
}

// RFC 6762 section 6.7: a resolver on another port is answered like by a DNS
// server.
func TestLegacyQuery(t *testing.T) {
	d := open(t)
	svc := replica(unique(6), "legacy")
	established(t, d, svc)
	wire := newTap(t, false)
	q := question{serviceName, typePTR}
	data, err := packet{id: 4711, questions: []question{q}}.pack()
	if err != nil {
		t.Fatal(err)
	}
	wire.send(data)
	got, _ := wire.await("answer", func(p packet) bool {
		return p.id == 4711 && len(p.answers) > 0 && p.answers[0].target == instanceName(svc)
	})
	if len(got.questions) != 1 || got.questions[0] != q {
		t.Errorf("questions of the answer: %v", got.questions)
	}
	for _, r := range got.answers {
		if r.ttl > 10 || r.flush {
			t.Errorf("record %v for a legacy resolver: TTL %d, cache-flush %t", r.typ, r.ttl, r.flush)
		}
	}
	if len(got.answers) != 4 {
		t.Errorf("answered %v, want PTR, SRV, TXT and A", got.answers)
	}
}

// announcementOf returns the packet that announces a service, changed.
func announcementOf(t *testing.T, svc discovery.Service, change func(*packet)) []byte {
	t.Helper()
	txt, err := discovery.EncodeTXT(svc)
	if err != nil {
		t.Fatal(err)
	}
	name := instanceName(svc)
	p := packet{response: true, answers: []record{
		{name: serviceName, typ: typePTR, ttl: 120, target: name},
		{name: name, typ: typeSRV, ttl: 120, target: "evil.local.", port: 1},
		{name: name, typ: typeTXT, ttl: 120, txt: txt},
		{name: "evil.local.", typ: typeA, ttl: 120, addr: netip.MustParseAddr("127.0.0.1")},
	}}
	if change != nil {
		change(&p)
	}
	data, err := p.pack()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dotted returns a packet with a label that has a dot in it, before an
// announcement. The parser's own names cannot express it.
func dotted(data []byte) []byte {
	var p []byte
	p = append(p, data[:12]...)
	p[7]++ // answers
	p = append(p, "\x05a.b.c\x04_ipp\x04_tcp\x05local\x00"...)
	p = append(p, 0, 16, 0, 1, 0, 0, 0, 120, 0, 1, 0)
	// The names of the announcement begin 33 bytes later.
	shift := len(p) - 12
	rest := append([]byte(nil), data[12:]...)
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] == 0xC0 {
			rest[i+1] += byte(shift)
			i++
		}
	}
	return append(p, rest...)
}

func TestHostilePacketsAreCountedAndIgnored(t *testing.T) {
	d := open(t)
	events, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	evil := replica(unique(7), "evil")
	good := announcementOf(t, replica(unique(8), "good"), nil)
	edits := 0
	edit := func(i int, r func(*record)) []byte {
		edits++ // of different replicas and hosts, or the parts that are right would add up
		host := fmt.Sprintf("evil-%d.local.", edits)
		return announcementOf(t, replica(unique(7)+edits<<40, "evil"), func(p *packet) {
			p.answers[1].target, p.answers[3].name = host, host
			r(&p.answers[i])
		})
	}
	packets := map[string][]byte{
		"empty":           {},
		"short":           {1, 2, 3},
		"noise":           []byte(strings.Repeat("\xff\x00\xc0\x0c", 500)),
		"cut":             good[:len(good)/2],
		"many promised":   append([]byte{0, 0, 0x84, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, good[12:]...),
		"opcode":          append([]byte{0, 0, 0xfc, 0}, announcementOf(t, evil, nil)[4:]...),
		"pointer loop":    append([]byte{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0}, 0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12),
		"wrong version":   edit(2, func(r *record) { r.txt = []string{"v=9"} }),
		"no text":         edit(2, func(r *record) { r.txt = []string{""} }),
		"another's id":    edit(2, func(r *record) { r.txt[1] = "id=" + strings.Repeat("e", 64) }),
		"no address":      edit(3, func(r *record) { r.addr = netip.MustParseAddr("0.0.0.0") }),
		"group's address": edit(3, func(r *record) { r.addr = netip.MustParseAddr("224.0.0.251") }),
		"no short id":     edit(0, func(r *record) { r.target = "evil." + serviceName }),
		"no short id 2":   edit(0, func(r *record) { r.target = "-zzzzzzzzzzzz." + serviceName }),
	}
	wire, legacy := newTap(t, true), newTap(t, false)
	before := d.Stats()
	for name, data := range packets {
		if name == "empty" {
			continue // below: the system does not deliver all of them
		}
		wire.send(data)
	}
	// A response from another port than 5353 must not be believed.
	legacy.send(announcementOf(t, evil, nil))
	wire.send(dotted(good))
	e := await(t, events, discovery.Added, replica(unique(8), "").ID)
	if e.Service.Name != "good" {
		t.Errorf("the good service is %+v", e.Service)
	}
	after := d.Stats()
	if n := after.Invalid - before.Invalid; n < 10 {
		t.Errorf("%d packets and records counted as invalid, want at least 10", n)
	}
	if after.Foreign == before.Foreign {
		t.Error("the name with a dot in a label was not counted as foreign")
	}
	// A service that comes later, and not the evil one before it.
	wire.send(announcementOf(t, replica(unique(9), "last"), nil))
	for {
		select {
		case e := <-events:
			if e.Service.Name == "evil" {
				t.Fatalf("a hostile packet was believed: %v", e)
			}
			if e.Service.ID == replica(unique(9), "").ID {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no service after the hostile packets")
		}
	}
}

// Somebody else's goodbye for our service is contradicted at once.
func TestFalseGoodbyeIsContradicted(t *testing.T) {
	t.Parallel()
	d := open(t)
	other := open(t)
	events, err := other.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	svc := replica(unique(10), "mine")
	announce(t, d, svc)
	await(t, events, discovery.Added, svc.ID)
	wire := newTap(t, true)
	wire.await("second announcement", speaksOf(svc, 120))
	wire.send(announcementOf(t, svc, func(p *packet) { over(p.answers) }))
	wire.await("the false goodbye", speaksOf(svc, 0))
	said := time.Now()
	wire.await("contradiction", speaksOf(svc, 120))
	// One that comes later than a second after it, as from a machine that is
	// overloaded, is too late (RFC 6762 section 10.1).
	inTime := time.Since(said) < 800*time.Millisecond
	select {
	case e := <-events:
		if inTime && e.Service.ID == svc.ID && e.Type == discovery.Removed {
			t.Error("the service was removed by a false goodbye")
		}
	default:
	}
}

func TestConflictIsCounted(t *testing.T) {
	t.Parallel()
	d := open(t)
	svc := replica(unique(11), "mine")
	established(t, d, svc)
	wire := newTap(t, true)
	wire.send(announcementOf(t, svc, nil))
	// A legacy question is answered at once: the answer to one that follows
	// shows that the packet before it was looked at.
	legacy := newTap(t, false)
	q, err := packet{id: 815, questions: []question{{instanceName(svc), dnsmessage.TypeSRV}}}.pack()
	if err != nil {
		t.Fatal(err)
	}
	legacy.send(q)
	legacy.await("answer", func(p packet) bool { return p.id == 815 })
	if n := d.Stats().Conflicts; n == 0 {
		t.Error("the conflict was not counted")
	}
}
