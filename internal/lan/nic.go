//go:build linux

package lan

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// patience bounds every wait of the laboratory. It is a guard against waiting
// for ever and measures nothing.
const patience = 60 * time.Second

// outputDelay is how long a command that has ended may still hold its output.
const outputDelay = 100 * time.Millisecond

func newDeadline() *time.Timer { return time.NewTimer(patience) }

// NIC is a host's network card and the cable to its switch.
type NIC struct {
	// Name is the interface's name in the host.
	Name string
	// Host is the host that it is in.
	Host *Host
	// Switch is the switch on the other end.
	Switch *Switch

	// port is the name of the other end in the cabinet.
	port  string
	mac   string
	addrs []netip.Prefix
	there bool
}

// NIC returns the host's card number i, in the order in which they were added.
func (h *Host) NIC(i int) *NIC { return h.nics[i] }

// Plug adds a card to the host, running or not, and connects it with a switch.
func (h *Host) Plug(sw *Switch) *NIC {
	l := h.lab
	l.t.Helper()
	l.cards++
	n := &NIC{
		Name: fmt.Sprintf("eth%d", len(h.nics)), Host: h, Switch: sw,
		port: fmt.Sprintf("p%d-%.8s", l.cards, h.Name), mac: fmt.Sprintf("02:00:00:00:%02x:%02x", l.cards>>8, l.cards&0xff),
	}
	for _, s := range sw.subnets {
		n.addrs = append(n.addrs, nth(s, l.cards))
	}
	h.nics = append(h.nics, n)
	sw.nics = append(sw.nics, n)
	if !h.off {
		n.connect()
	}
	return n
}

// connect makes the card and its cable.
func (n *NIC) connect() {
	l := n.Host.lab
	l.t.Helper()
	l.must(l.cabinet.ip("link add %s type veth peer name %s address %s netns %d\nlink set %[1]s master %[5]s up",
		n.port, n.Name, n.mac, n.Host.first.pid, n.Switch.name))
	n.there = true
	var b strings.Builder
	for _, a := range n.addrs {
		b.WriteString(addrCommand("add", a, n.Name))
	}
	l.must(n.Host.first.ip("link set %s up\n%s", n.Name, b.String()))
}

func addrCommand(verb string, a netip.Prefix, dev string) string {
	if a.Addr().Is4() {
		return fmt.Sprintf("addr %s %s brd + dev %s\n", verb, a, dev)
	}
	return fmt.Sprintf("addr %s %s dev %s\n", verb, a, dev)
}

// Remove takes the card out of the running host.
func (n *NIC) Remove() {
	l := n.Host.lab
	l.t.Helper()
	l.must(l.cabinet.ip("link del %s", n.port))
	n.there = false
}

// Restore puts a removed card in again, with the same name and addresses.
func (n *NIC) Restore() {
	n.Host.lab.t.Helper()
	n.connect()
}

// CableOut takes the cable out of the switch: the host sees that it has no
// carrier any more, and keeps its addresses.
func (n *NIC) CableOut() {
	l := n.Host.lab
	l.t.Helper()
	l.must(l.cabinet.ip("link set %s down", n.port))
}

// CableIn puts the cable in again.
func (n *NIC) CableIn() {
	l := n.Host.lab
	l.t.Helper()
	l.must(l.cabinet.ip("link set %s up", n.port))
}

// Down takes the interface down in the host, as its administrator would. IPv6
// addresses are lost with that.
func (n *NIC) Down() {
	l := n.Host.lab
	l.t.Helper()
	l.must(n.Host.first.ip("link set %s down", n.Name))
}

// Up brings the interface up again, with all addresses that it is to have.
func (n *NIC) Up() {
	l := n.Host.lab
	l.t.Helper()
	var b strings.Builder
	for _, a := range n.addrs {
		b.WriteString(strings.Replace(addrCommand("replace", a, n.Name), "brd + ", "", 1))
	}
	l.must(n.Host.first.ip("link set %s up\n%s", n.Name, b.String()))
}

// Addrs returns the addresses that the laboratory gave the card: not the
// link-local one.
func (n *NIC) Addrs() []netip.Addr {
	var list []netip.Addr
	for _, p := range n.addrs {
		list = append(list, p.Addr())
	}
	return list
}

// Addr returns the first address of the card.
func (n *NIC) Addr() netip.Addr {
	n.Host.lab.t.Helper()
	if len(n.addrs) == 0 {
		n.Host.lab.t.Fatalf("%s of host %s has no address of a subnet", n.Name, n.Host.Name)
	}
	return n.addrs[0].Addr()
}

// LinkLocal returns the IPv6 link-local address of the card, without a zone.
func (n *NIC) LinkLocal() netip.Addr {
	// The kernel's choice for a hardware address: RFC 4291, appendix A.
	var m [6]byte
	_, err := fmt.Sscanf(n.mac, "%02x:%02x:%02x:%02x:%02x:%02x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5])
	n.Host.lab.must(err)
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// AddAddr gives the card one more address, such as "192.168.1.77/24".
func (n *NIC) AddAddr(prefix string) netip.Addr {
	l := n.Host.lab
	l.t.Helper()
	p, err := netip.ParsePrefix(prefix)
	l.must(err)
	l.must(n.Host.first.ip("%s", addrCommand("add", p, n.Name)))
	n.addrs = append(n.addrs, p)
	return p.Addr()
}

// DelAddr takes an address away.
func (n *NIC) DelAddr(addr netip.Addr) {
	l := n.Host.lab
	l.t.Helper()
	for i, p := range n.addrs {
		if p.Addr() == addr {
			l.must(n.Host.first.ip("%s", strings.Replace(addrCommand("del", p, n.Name), "brd + ", "", 1)))
			n.addrs = append(n.addrs[:i:i], n.addrs[i+1:]...)
			return
		}
	}
	l.t.Fatalf("%s of host %s has no address %s", n.Name, n.Host.Name, addr)
}
