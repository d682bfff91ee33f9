package mdns

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/discovery"
)

// say puts the announcement of a service with an address on a bus, as it comes
// from a source.
func (b *bus) say(t *testing.T, source string, svc discovery.Service, addr string) {
	t.Helper()
	txt, err := discovery.EncodeTXT(svc)
	if err != nil {
		t.Fatal(err)
	}
	name, a := instanceName(svc), netip.MustParseAddr(addr)
	typ := typeA
	if a.Is6() {
		typ = typeAAAA
	}
	data, err := packet{response: true, answers: []record{
		{name: serviceName, typ: typePTR, ttl: 120, target: name},
		{name: name, typ: typeSRV, ttl: 120, target: "host-" + name[:4] + ".local.", port: 22},
		{name: name, typ: typeTXT, ttl: 120, txt: txt},
		{name: "host-" + name[:4] + ".local.", typ: typ, ttl: 120, addr: a},
	}}.pack()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.send(netip.AddrPortFrom(netip.MustParseAddr(source), mdnsPort), outgoing{data: data}); err != nil {
		t.Fatal(err)
	}
}

// A stranger cannot point anybody at his own machine: an address of this one is
// believed from this one alone.
func TestOwnAddressesOfOthersAreIgnored(t *testing.T) {
	tests := map[string]struct {
		source, addr string
		believed     bool
	}{
		"another's address":                 {"192.0.2.9", "192.0.2.9", true},
		"a third one's address":             {"192.0.2.9", "192.0.2.10", true},
		"ours":                              {"192.0.2.9", "192.0.2.1", false},
		"ours on another interface":         {"192.0.2.9", "172.17.0.1", false},
		"ours on another interface, IPv6":   {"192.0.2.9", "2001:db8::1", false},
		"loopback":                          {"192.0.2.9", "127.0.0.1", false},
		"loopback, not the usual":           {"192.0.2.9", "127.9.9.9", false},
		"ours, from a neighbour process":    {"192.0.2.1", "192.0.2.1", true},
		"another interface's, from process": {"192.0.2.1", "172.17.0.1", true},
		"ours, from another interface":      {"172.17.0.1", "192.0.2.1", true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bus{}
				d, p := b.node(t, "192.0.2.1")
				p.others = []netip.Addr{
					netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("2001:db8::1"),
				}
				var y diary
				y.write(t, d)
				synctest.Wait()
				before := d.Stats().Invalid
				b.say(t, tc.source, replica(1, "web"), tc.addr)
				time.Sleep(10 * time.Second)
				want, ignored := "", uint64(1)
				if tc.believed {
					want, ignored = "added web 22;", 0
				}
				if got := y.String(); got != want {
					t.Errorf("events %q, want %q", got, want)
				}
				if n := d.Stats().Invalid - before; n != ignored {
					t.Errorf("%d records counted as invalid, want %d", n, ignored)
				}
			})
		})
	}
}

// A link-local address is this machine's on the link where it has it, and
// another's elsewhere.
func TestOwnLinkLocalAddress(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	own := netip.MustParseAddr("fe80::1")
	e.zone = func(link int) string { return map[int]string{1: "eth1", 2: "eth2"}[link] }
	e.local = func() []netip.Addr { return []netip.Addr{own} }
	e.addrs = func(link int) []netip.Addr {
		if link == 1 {
			return []netip.Addr{own.WithZone("eth1")}
		}
		return nil
	}
	if !e.isLocal(now, own, 1) || !e.isLocal(now, own.WithZone("eth1"), 1) || e.isLocal(now, own, 2) {
		t.Error("fe80::1 is ours on the first link only")
	}
}

// Addresses are followed: one that this machine gets is its own from then on.
func TestOwnAddressesAreFollowed(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	addr := netip.MustParseAddr("192.0.2.50")
	if e.isLocal(now, addr, busLink) {
		t.Error("an address that nobody has is called our own")
	}
	e.local = func() []netip.Addr { return []netip.Addr{addr} }
	if !e.isLocal(now.Add(time.Second), addr, busLink) {
		t.Error("a new address is not seen after a second")
	}
}
