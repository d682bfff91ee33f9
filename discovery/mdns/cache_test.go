package mdns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/discovery"
)

func TestLife(t *testing.T) {
	start := time.Unix(1e9, 0)
	after := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	l := newLife(start, 100, 0.01)
	if !l.alive(after(99.9)) || l.alive(after(100)) {
		t.Error("a record of 100 s does not live for 100 s")
	}
	if !l.fresh(after(49)) || l.fresh(after(51)) {
		t.Error("a record is fresh for half of its life")
	}
	// RFC 6762 section 5.2: 80, 85, 90, 95 %.
	for _, at := range []float64{81, 86, 91, 96} {
		if l.due(after(at - 0.1)) {
			t.Errorf("asked for before %v s", at)
		}
		if !l.due(after(at)) || l.due(after(at)) {
			t.Errorf("not asked for once at %v s", at)
		}
	}
	if !l.refreshAt().IsZero() || l.next(true) != after(100) {
		t.Error("asked for a fifth time")
	}
	late := newLife(start, 100, 0)
	if !late.due(after(92)) || late.due(after(92)) || !late.due(after(95)) {
		t.Error("refreshes that were missed are made up for, one by one")
	}
	gone := newLife(start, 100, 0)
	gone.leave(after(10))
	if !gone.alive(after(10.9)) || gone.alive(after(11)) || gone.fresh(after(10.5)) || !gone.leaving() || gone.due(after(99)) {
		t.Errorf("a goodbye leaves a second: %+v", gone)
	}
	if long := newLife(start, 1<<31, 0); long.alive(start.Add(maxTTL)) {
		t.Error("a TTL of decades is believed")
	}
	if short := newLife(start, 0, 0); short.alive(start) {
		t.Error("a record of no time lives")
	}
	if short := newLife(start, 1, 0); short.leaving() {
		t.Error("a new record is leaving")
	}
}

// hear gives a cache the announcement of a service, changed, on a link.
func hear(t *testing.T, e *engine, now time.Time, link int, source string, svc discovery.Service, change func([]record)) {
	t.Helper()
	txt, err := discovery.EncodeTXT(svc)
	if err != nil {
		t.Fatal(err)
	}
	name := instanceName(svc)
	records := []record{
		{name: serviceName, typ: typePTR, ttl: 120, target: name},
		{name: name, typ: typeSRV, ttl: 120, flush: true, target: "host-" + source + ".local.", port: uint16(svc.PeerPort)},
		{name: name, typ: typeTXT, ttl: 120, flush: true, txt: txt},
		{name: "host-" + source + ".local.", typ: typeA, ttl: 120, flush: true, addr: netip.MustParseAddr(source)},
	}
	if change != nil {
		change(records)
	}
	e.learn(now, link, netip.MustParseAddr(source), packet{response: true, answers: records})
}

// known returns the one service of an id.
func known(e *engine, now time.Time, svc discovery.Service) (discovery.Service, bool) {
	s, ok := e.cache.services(svc.ID[:shortID], now)[svc.ID]
	return s, ok
}

func TestAddressesOfSeveralLinksAreOneService(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	e.zone = func(link int) string { return fmt.Sprintf("eth%d", link) }
	svc := replica(1, "web")
	hear(t, e, now, 1, "192.0.2.1", svc, nil)
	hear(t, e, now, 2, "198.51.100.1", svc, nil)
	// D6: link-local addresses have the zone of the interface they came in on.
	v6 := record{name: "host-198.51.100.1.local.", typ: typeAAAA, ttl: 120, addr: netip.MustParseAddr("fe80::1")}
	e.learn(now, 2, netip.MustParseAddr("198.51.100.1"), packet{response: true, others: []record{v6}})
	got, ok := known(e, now, svc)
	if want := "[192.0.2.1 198.51.100.1 fe80::1%eth2]"; !ok || fmt.Sprint(got.Addrs) != want {
		t.Errorf("addresses %v, want %v", got.Addrs, want)
	}
	// Gone on one link: still there on the other.
	hear(t, e, now, 1, "192.0.2.1", svc, func(r []record) { over(r) })
	now = now.Add(1500 * time.Millisecond)
	e.due(now)
	got, ok = known(e, now, svc)
	if want := "[198.51.100.1 fe80::1%eth2]"; !ok || fmt.Sprint(got.Addrs) != want {
		t.Errorf("addresses %v, want %v", got.Addrs, want)
	}
}

// RFC 6762 section 10.2: a new address with the cache-flush bit replaces the
// old one, a second later.
func TestAddressChangeReplaces(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	svc := replica(1, "web")
	hear(t, e, now, 1, "192.0.2.1", svc, nil)
	now = now.Add(10 * time.Second)
	hear(t, e, now, 1, "192.0.2.1", svc, func(r []record) { r[3].addr = netip.MustParseAddr("192.0.2.77") })
	if got, _ := known(e, now, svc); len(got.Addrs) != 2 {
		t.Errorf("addresses %v, want both for a second", got.Addrs)
	}
	now = now.Add(1100 * time.Millisecond)
	if got, _ := known(e, now, svc); fmt.Sprint(got.Addrs) != "[192.0.2.77]" {
		t.Errorf("addresses %v, want the new one", got.Addrs)
	}
}

func TestUnusableAddresses(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	svc := replica(1, "web")
	for _, addr := range []string{"127.0.0.1", "0.0.0.0", "224.0.0.251", "::1", "::", "ff02::fb", "::ffff:192.0.2.1"} {
		before := e.stats.Invalid
		hear(t, e, now, 1, "192.0.2.1", svc, func(r []record) {
			r[3].addr = netip.MustParseAddr(addr)
			if r[3].addr.Is6() {
				r[3].typ = typeAAAA
			}
		})
		if e.stats.Invalid != before+1 {
			t.Errorf("%s was not counted as invalid", addr)
		}
		if got, ok := known(e, now, svc); ok {
			t.Errorf("%s from another machine was believed: %v", addr, got.Addrs)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	n := 0
	for source := 1; source <= 10; source++ {
		for range 1500 {
			n++
			hear(t, e, now, 1, fmt.Sprintf("192.0.2.%d", source), replica(n, "web"), nil)
		}
		for _, count := range e.cache.sources {
			if count > maxPerSource {
				t.Fatalf("one source brought in %d instances", count)
			}
		}
	}
	if len(e.cache.instances) != maxInstances || e.stats.Limited == 0 {
		t.Errorf("%d instances, %d refused", len(e.cache.instances), e.stats.Limited)
	}
	svc := replica(1, "web")
	for i := range 100 {
		hear(t, e, now, 1, "192.0.2.1", svc, func(r []record) { r[3].addr = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) })
	}
	if got, _ := known(e, now, svc); len(got.Addrs) > maxAddrs {
		t.Errorf("%d addresses of one host", len(got.Addrs))
	}
	// Hosts that nobody points at any more are forgotten.
	for i := range 100 {
		hear(t, e, now, 1, "192.0.2.1", svc, func(r []record) { r[1].target = fmt.Sprintf("host-%d.local.", i) })
	}
	if n := len(e.cache.hosts); n > 20 {
		t.Errorf("%d hosts", n)
	}
	now = now.Add(time.Hour)
	e.due(now)
	if len(e.cache.instances)+len(e.cache.hosts)+len(e.cache.short)+len(e.cache.sources) > 0 {
		t.Error("the cache keeps what has expired")
	}
}

// Whoever claims the id of a known service comes after it.
func TestTheOlderInstanceCounts(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	old, newcomer := replica(1, "old"), replica(1, "newcomer")
	hear(t, e, now, 1, "192.0.2.1", old, nil)
	hear(t, e, now, 1, "192.0.2.2", newcomer, nil)
	if got, _ := known(e, now, old); got.Name != "old" {
		t.Errorf("the service is %q", got.Name)
	}
	hear(t, e, now, 1, "192.0.2.1", old, func(r []record) { over(r) })
	if got, _ := known(e, now, old); got.Name != "newcomer" {
		t.Errorf("after the goodbye the service is %q", got.Name)
	}
}

func TestLimiter(t *testing.T) {
	var l limiter
	now := time.Unix(1e9, 0)
	flood, calm := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	passed := 0
	for range 3 * sourceBurst {
		if l.allow(now, flood) {
			passed++
		}
	}
	if passed != sourceBurst || !l.allow(now, calm) {
		t.Errorf("%d packets of a flood passed, want %d, and others too", passed, sourceBurst)
	}
	for i := range 10 * maxSources {
		l.allow(now, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if len(l.buckets) > maxSources+1 {
		t.Errorf("%d sources are told apart", len(l.buckets))
	}
	now = now.Add(time.Minute)
	if !l.allow(now, flood) {
		t.Error("the flood is never forgiven")
	}
	l.allow(now, netip.MustParseAddr("198.51.100.1"))
	if len(l.buckets) > 2 {
		t.Errorf("%d sources are remembered after a minute", len(l.buckets))
	}
}

// D1: container bridges and their like are left out, loopback is the last resort.
func TestChoose(t *testing.T) {
	const up = net.FlagUp | net.FlagMulticast | net.FlagBroadcast
	iface := func(name string, flags net.Flags, addrs ...string) candidate {
		c := candidate{Interface: net.Interface{Name: name, Flags: flags}}
		for _, a := range addrs {
			c.addrs = append(c.addrs, netip.MustParseAddr(a))
		}
		return c
	}
	lo := iface("lo", net.FlagUp|net.FlagLoopback, "127.0.0.1")
	machine := []candidate{
		lo, iface("eth0", up, "192.0.2.1"), iface("wlan0", up, "fe80::1"), iface("br0", up, "198.51.100.1"),
		iface("docker0", up, "172.17.0.1"), iface("br-0123456789ab", up, "172.18.0.1"), iface("veth12ab", up, "fe80::2"),
		iface("cni0", up, "10.88.0.1"), iface("virbr0", up, "192.168.122.1"), iface("podman0", up, "10.88.0.2"),
		iface("tun0", up|net.FlagPointToPoint, "10.8.0.1"), iface("ppp0", up|net.FlagPointToPoint, "10.9.0.1"),
		iface("eth1", net.FlagMulticast, "192.0.2.2"), iface("eth2", up), iface("eth3", net.FlagUp, "192.0.2.3"),
	}
	unplugged := machine[1]
	unplugged.noCarrier = true
	// A bridge leads where its ports lead, and is what is used of them.
	bridge := func(name, addr string, ports ...string) candidate {
		c := iface(name, up, addr)
		c.bridge, c.ports = true, ports
		return c
	}
	port := machine[1]
	port.enslaved = true
	bridges := []candidate{
		lo, port, bridge("br-lan", "192.0.2.1", "veth0", "eth0"), bridge("br0", "192.0.2.2", "eth0.7"),
		bridge("mine", "172.19.0.1", "veth1", "veth2"), bridge("empty", "172.20.0.1"), bridge("docker0", "172.17.0.1", "odd"),
	}
	for _, c := range []struct {
		name  string
		list  []candidate
		names []string
		want  string
		err   string
	}{
		{"machine", machine, nil, "eth0 wlan0 br0", ""},
		{"only loopback", machine[:1], nil, "lo", ""},
		{"only containers", []candidate{lo, machine[4]}, nil, "lo", ""},
		{"named", machine, []string{"docker0", "lo"}, "lo docker0", ""},
		{"nothing", nil, nil, "", ""},
		{"unknown", machine[:2], []string{"eth9"}, "", "choose one of lo, eth0"},
		{"down", machine, []string{"eth1"}, "", ""},
		{"without address", machine, []string{"eth2"}, "", ""},
		{"cable out", []candidate{lo, unplugged}, nil, "lo", ""},
		{"bridges", bridges, nil, "br-lan br0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := nameInterfaces(c.list, c.names)
			got := choose(c.list, c.names)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one that says %q", err, c.err)
				}
				return
			}
			var names []string
			for _, i := range got {
				names = append(names, i.Name)
			}
			if err != nil || !slices.Equal(names, strings.Fields(c.want)) {
				t.Errorf("got %v, %v, want %s", names, err, c.want)
			}
		})
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	if d, err := New(WithInterfaces("there-is-none")); err == nil || !strings.Contains(err.Error(), `"there-is-none"`) {
		if d != nil {
			d.Close()
		}
		t.Errorf("New: %v", err)
	}
}

func TestInstanceNames(t *testing.T) {
	long := replica(0xabc, strings.Repeat("n", 63))
	name := instanceName(long)
	label, _, _ := strings.Cut(name, ".")
	if len(label) != maxLabel {
		t.Errorf("label of %d bytes, want %d", len(label), maxLabel)
	}
	if short, ok := shortIDOf(name); !ok || short != long.ID[:shortID] {
		t.Errorf("short id %q of %q", short, name)
	}
	for name, want := range map[string]bool{
		"web-0123456789ab." + serviceName:     true,
		"web-2-0123456789ab." + serviceName:   true,
		"0123456789ab." + serviceName:         false,
		"-0123456789ab." + serviceName:        false,
		"web-0123456789aB." + serviceName:     false,
		"web0123456789ab." + serviceName:      false,
		"a.b-0123456789ab." + serviceName:     false,
		"web-0123456789ab._ipp._tcp.local.":   false,
		"web-0123456789ab." + serviceName[1:]: false,
		serviceName:                           false,
		"":                                    false,
	} {
		if _, ok := shortIDOf(name); ok != want {
			t.Errorf("%q: an instance of Budgie is %t, want %t", name, ok, want)
		}
	}
}
