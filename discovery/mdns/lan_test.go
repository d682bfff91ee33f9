//go:build linux

package mdns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
	"golang.org/x/net/ipv4"
)

// run is a node that runs in a host.
type run struct {
	*lan.Cmd
	t *testing.T
	// at is how far its output was read.
	at int
}

// runNode starts a node, which announces replica number n, and more if args say
// so.
func runNode(t *testing.T, h *lan.Host, n int, args ...string) *run {
	t.Helper()
	r := &run{Cmd: h.Role("node", append([]string{"-first", strconv.Itoa(n)}, args...)...), t: t}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	r.Await("ready")
	return r
}

// event waits for the next event of a type about replica number n.
func (r *run) event(typ string, n int) []string {
	r.t.Helper()
	return r.eventWith(typ, n, func([]netip.Addr) bool { return true })
}

// eventWith waits for one whose addresses are ok.
func (r *run) eventWith(typ string, n int, ok func([]netip.Addr) bool) []string {
	r.t.Helper()
	var words []string
	_, r.at = r.AwaitLine(fmt.Sprintf("%s of replica %d", typ, n), r.at, func(line string) bool {
		words = strings.Fields(line)
		return len(words) > 3 && (words[0] == typ || typ == "") &&
			strings.HasPrefix(words[2], replica(n, "").ID[:shortID]) && ok(addrsOf(words))
	})
	return words
}

// addrsOf returns the addresses in a printed event.
func addrsOf(words []string) []netip.Addr {
	var addrs []netip.Addr
	for _, w := range words[4:] {
		if addr, err := netip.ParseAddr(strings.Trim(w, "[]")); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// exactly returns a condition for eventWith.
func exactly(want ...netip.Addr) func([]netip.Addr) bool {
	slices.SortFunc(want, netip.Addr.Compare)
	return func(got []netip.Addr) bool { return slices.Equal(got, want) }
}

// of returns all addresses of a card, as others on their eth0 know them.
func of(n *lan.NIC) []netip.Addr { return append(n.Addrs(), n.LinkLocal().WithZone("eth0")) }

// stop ends a node, which says goodbye, and returns its counts.
func (r *run) stop() string {
	r.t.Helper()
	r.Stop()
	_, stats, _ := strings.Cut(r.Printed(), "\nstats ")
	return stats
}

// peaceful fails the test if a node saw a conflict.
func (r *run) peaceful() {
	r.t.Helper()
	if stats := r.stop(); !strings.Contains(stats, "Conflicts:0 Renames:0") {
		r.t.Errorf("the counts are %s", stats)
	}
}

// reach connects from a host with the peer port of a node.
func reach(t *testing.T, h *lan.Host, addr netip.Addr) {
	t.Helper()
	if err := h.Do(func() error {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, 7946).String(), 30*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}); err != nil {
		t.Errorf("not reached at the announced address: %v", err)
	}
}

// hears asks by multicast from a socket that do opens, and reports whether there
// is an answer within a moment.
func hears(t *testing.T, do func(func() error) error) bool {
	t.Helper()
	ask, err := packet{id: 4711, questions: []question{{serviceName, typePTR}}}.pack()
	if err != nil {
		t.Fatal(err)
	}
	var c net.PacketConn
	if err := do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if c, err = net.ListenPacket("udp4", ":0"); err != nil {
			return err
		}
		return ipv4.NewPacketConn(c).SetMulticastInterface(i)
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, maxPacket)
	for range 3 {
		if _, err := c.WriteTo(ask, &net.UDPAddr{IP: group4().AsSlice(), Port: mdnsPort}); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.ReadFrom(buf); err == nil {
			return true
		}
	}
	return false
}

// Two networks and a bridge of containers: found on both networks, under the
// addresses of each, and not on the bridge.
func TestCaseD1TwoInterfacesAndABridge(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	one, two := lab.Switch(), lab.Switch()
	a, b, c := lab.Host("a", one, two), lab.Host("b", one), lab.Host("c", two)
	container := a.Docker(1)[0]
	runNode(t, a, 1)
	atB, atC := runNode(t, b, 2), runNode(t, c, 3)
	atB.eventWith("", 1, exactly(of(a.NIC(0))...))
	atC.eventWith("", 1, exactly(of(a.NIC(1))...))
	if !hears(t, b.Do) {
		t.Error("no answer on the network: what follows shows nothing")
	}
	if hears(t, container.Do) {
		t.Error("answered on the bridge of containers")
	}
	for dev, want := range map[string]bool{"eth0": true, "eth1": true, "docker0": false, "veth2": false} {
		groups := a.Run("ip", "maddr", "show", "dev", dev)
		if got := strings.Contains(groups, group4().String()) || strings.Contains(groups, group6().String()); got != want {
			t.Errorf("member of the group on %s: %t, want %t", dev, got, want)
		}
	}
	// A container network that comes later changes nothing.
	a.Run("ip", "link", "add", "br-0123456789ab", "type", "bridge")
	a.Run("ip", "addr", "add", "172.18.0.1/16", "dev", "br-0123456789ab")
	a.Run("ip", "link", "set", "br-0123456789ab", "up")
	// One of a name that says nothing, with a container on it.
	a.Run("ip", "link", "add", "shop", "type", "bridge")
	a.Run("ip", "addr", "add", "172.19.0.1/16", "dev", "shop")
	a.Run("ip", "link", "set", "veth2", "master", "shop")
	a.Run("ip", "link", "set", "shop", "up")
	added := a.NIC(0).AddAddr("192.168.1.200/24")
	atB.eventWith("updated", 1, exactly(of(a.NIC(0))...))
	if strings.Contains(atB.Printed()+atC.Printed(), "172.1") {
		t.Errorf("the address of a bridge was announced: %s%s", atB.Printed(), atC.Printed())
	}
	reach(t, b, added)
}

// A clean end is seen by the goodbye: the TTL is longer than the patience of the
// laboratory. Who is killed is noticed by the connection to the peer, which is
// not this package's.
func TestCaseD2Goodbye(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	atB := runNode(t, b, 2)
	for range 2 {
		atA := runNode(t, a, 1)
		atB.event("added", 1)
		begun := time.Now()
		atA.stop()
		atB.event("removed", 1)
		t.Logf("the end was seen after %v", time.Since(begun))
	}
}

// Two cards on one switch, and two processes: nobody takes a name from himself.
func TestCaseD4TwoInterfacesOnOneNetwork(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw, sw), lab.Host("b", sw)
	avahi := a.Avahi()
	first, second := runNode(t, a, 1), runNode(t, a, 2)
	atB := runNode(t, b, 3)
	all := exactly(append(of(a.NIC(0)), of(a.NIC(1))...)...)
	atB.eventWith("", 1, all)
	atB.at = 0
	atB.eventWith("", 2, all)
	first.event("added", 2)
	second.event("added", 1)
	// Everything is said again when a card comes back.
	a.NIC(1).CableOut()
	first.eventWith("updated", 1, exactly(append(a.NIC(0).Addrs(), a.NIC(0).LinkLocal().WithZone("eth0"))...))
	a.NIC(1).CableIn()
	first.eventWith("updated", 1, func(got []netip.Addr) bool { return len(got) == 6 })
	late := runNode(t, a, 4)
	atB.eventWith("", 4, all)
	late.peaceful()
	first.peaceful()
	second.peaceful()
	atB.peaceful()
	if name := avahi.HostName(); name != "a" {
		t.Errorf("avahi calls the host %q now", name)
	}
}

// Twenty hosts with five replicas each: all are listed, and then it is quiet.
func TestCaseD5ManyReplicas(t *testing.T) {
	lab := lan.New(t)
	sw := lab.Switch()
	const hosts, each = 20, 5
	var nodes []*run
	for i := range hosts {
		h := lab.Host(fmt.Sprintf("h%d", i), sw)
		nodes = append(nodes, runNode(t, h, 1+i*each, "-count", strconv.Itoa(each), "-total", strconv.Itoa(hosts*each)))
	}
	for _, n := range nodes {
		n.Await("total after")
	}
	late := runNode(t, lab.Host("late", sw), 1000, "-count", "0", "-total", strconv.Itoa(hosts*each))
	took, _ := late.AwaitLine("the total", 0, func(line string) bool { return strings.HasPrefix(line, "total after") })
	t.Logf("a newcomer lists %d replicas: %s", hosts*each, took)
	late.peaceful()

	// On a busy machine the last of the announcements and questions of the beginning come
	// later.
	const period, periods = 5 * time.Second, 6
	for i := range periods {
		seen := sw.Capture()
		<-time.After(period)
		packets, err := seen.Stop(lan.MDNS)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("idle: %d packets in %v", len(packets), period)
		if float64(len(packets))/period.Seconds() < 5 {
			return
		}
		if i == periods-1 {
			t.Errorf("%d packets in %v, want fewer than 5 a second", len(packets), period)
		}
	}
}

// Hosts that have no other addresses than IPv6 link-local ones reach each other
// at what they announce.
func TestCaseD6LinkLocalOnly(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.SwitchOf()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	runNode(t, a, 1)
	atB := runNode(t, b, 2)
	want := a.NIC(0).LinkLocal().WithZone("eth0")
	got := addrsOf(atB.event("added", 1))
	if !slices.Equal(got, []netip.Addr{want}) {
		t.Fatalf("addresses %v, want %v", got, want)
	}
	reach(t, b, got[0])
}

// A changed address is followed, and the service is the same.
func TestCaseD7AddressChange(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.SwitchOf("192.168.1.0/24")
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	runNode(t, a, 1)
	atB := runNode(t, b, 2)
	first := atB.eventWith("", 1, exactly(of(a.NIC(0))...))
	old := a.NIC(0).Addr()
	begun := time.Now()
	a.NIC(0).DelAddr(old)
	now := a.NIC(0).AddAddr("192.168.1.77/24")
	last := atB.eventWith("updated", 1, exactly(of(a.NIC(0))...))
	t.Logf("the new address was seen alone after %v", time.Since(begun))
	if first[2] != last[2] {
		t.Errorf("the id was %s and is %s", first[2], last[2])
	}
	reach(t, b, now)
	if strings.Contains(atB.Printed(), "removed") {
		t.Errorf("the service was gone for a while:\n%s", atB.Printed())
	}
}

// Whatever happened to an interface: once it is back, so are both sides.
func TestInterfaceComesBack(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	card := a.NIC(0)
	atA := runNode(t, a, 1)
	atA.event("added", 1)
	n := 1
	for name, fault := range map[string]struct{ begin, end func() }{
		"cable": {card.CableOut, card.CableIn},
		"down":  {card.Down, card.Up},
		"card":  {card.Remove, card.Restore},
	} {
		fault.begin()
		atA.eventWith("", 1, exactly(netip.AddrFrom4([4]byte{127, 0, 0, 1}))) // in its place
		// Somebody who knows nothing of the first one yet.
		n++
		atB := runNode(t, b, n)
		begun, mark := time.Now(), atA.at
		fault.end()
		atB.eventWith("", 1, exactly(of(card)...))
		atA.event("added", n)
		t.Logf("%s: both have seen each other after %v", name, time.Since(begun))
		atA.at = mark
		atA.eventWith("", 1, func(got []netip.Addr) bool { return len(got) == 3 })
	}
}

// A machine that boots before it has a network card is on loopback, and on the
// network when there is one.
func TestBootsBeforeTheNetwork(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.Switch()
	a, b := lab.Host("a"), lab.Host("b", sw)
	atB := runNode(t, b, 9)
	first, second := runNode(t, a, 1), runNode(t, a, 2)
	lo := exactly(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	first.eventWith("added", 2, lo)
	second.eventWith("added", 1, lo)
	a.Plug(sw)
	for n := 1; n <= 2; n++ {
		atB.at = 0
		atB.eventWith("", n, exactly(of(a.NIC(0))...))
	}
	first.event("added", 9)
	first.eventWith("updated", 2, exactly(of(a.NIC(0))...))
	first.peaceful()
	second.peaceful()
}

// An interface that is named is waited for, and nothing else is used meanwhile.
func TestNamedInterfaceComesUp(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	one, two := lab.Switch(), lab.Switch()
	a, b, c := lab.Host("a", one, two), lab.Host("b", one), lab.Host("c", two)
	a.NIC(1).Down()
	atB, atC := runNode(t, b, 2), runNode(t, c, 3)
	atA := runNode(t, a, 1, "-interface", "eth1")
	a.NIC(1).Up()
	atC.eventWith("", 1, exactly(of(a.NIC(1))...))
	atA.event("added", 3)
	if strings.Contains(atB.Printed(), replica(1, "").ID) || strings.Contains(atA.Printed(), replica(2, "").ID) {
		t.Error("another interface was used, too")
	}
}

// Two machines of which one is a copy of the other: both are found.
func TestCopiedMachines(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.Switch()
	a, b, c := lab.Host("a", sw), lab.Host("b", sw), lab.Host("c", sw)
	atC := runNode(t, c, 9)
	// At once, so that they probe at once.
	atA, atB := a.Role("node", "-tail", "a"), b.Role("node", "-tail", "b")
	for _, cmd := range []*lan.Cmd{atA, atB} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{alike("a").ID, alike("b").ID} {
		atC.Await("added web " + s)
	}
	// Both were believed when they probed; now one has another name, and whoever
	// comes sees both.
	late := runNode(t, c, 10)
	for _, s := range []string{alike("a").ID, alike("b").ID} {
		late.Await("added web " + s)
	}
	renames := 0
	for _, cmd := range []*lan.Cmd{atA, atB} {
		cmd.Stop()
		renames += strings.Count(cmd.Printed(), "Renames:1")
	}
	if renames != 1 {
		t.Errorf("%d of two were renamed", renames)
	}
}
