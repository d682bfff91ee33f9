package mdns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// inward are the beginnings of the names of interfaces that lead to containers,
// virtual machines and tunnels on the same machine. Nobody on the local network
// can reach what is behind them, and what is behind them has no business with
// our replicas.
func inward() []string {
	return []string{
		"docker", "br-", "veth", "ve-", "vb-", "vz-", "cni", "cbr", "flannel", "cali", "cilium", "lxc", "lxdbr", "weave", "vxlan", "kube",
		"nerdctl", "podman", "virbr", "vnet", "vmnet", "vboxnet", "tun", "tap", "wg", "tailscale", "zt", "dummy", "ifb",
		"budgie", "nodelocaldns", "nat64", "ovs", "vEthernet (",
		// macOS: peer-to-peer Wi-Fi, tunnels, and the bridge of its virtual machines.
		"awdl", "llw", "utun", "bridge", "anpi", "gif", "stf", "ap1",
	}
}

// candidate is an interface, as far as it matters for the choice.
type candidate struct {
	net.Interface
	// addrs are the addresses that can be used at present: see usableAddrs.
	addrs []netip.Addr
	// noCarrier: the cable is out, as far as the system says.
	noCarrier bool
	// enslaved: it is a port of a bridge or a part of a bond, and what arrives
	// on it arrives on that.
	enslaved bool
	// bridge: it is a bridge, and ports are the names of its ports. False where
	// the system does not say.
	bridge bool
	ports  []string
}

// nameInterfaces returns an error for names that no interface has.
func nameInterfaces(list []candidate, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(list, func(c candidate) bool { return c.Name == name }) {
			return fmt.Errorf("there is no network interface %q: choose one of %s", name, nameList(list))
		}
	}
	return nil
}

// choose picks those of the named interfaces that can be used at present, or,
// without names, those that lead to the local network; without any of these,
// loopback is the last resort.
func choose(list []candidate, names []string) []candidate {
	var chosen []candidate
	for _, c := range list {
		if c.usable() && (len(names) == 0 && leadsOutside(c) || slices.Contains(names, c.Name)) {
			chosen = append(chosen, c)
		}
	}
	if len(names) > 0 {
		return chosen
	}
	for _, c := range list {
		if len(chosen) == 0 && c.Flags&net.FlagLoopback != 0 && c.usable() {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

func (c candidate) usable() bool { return c.Flags&net.FlagUp != 0 && !c.noCarrier && len(c.addrs) > 0 }

func leadsOutside(c candidate) bool {
	const never = net.FlagLoopback | net.FlagPointToPoint
	if c.Flags&net.FlagMulticast == 0 || c.Flags&never != 0 || c.enslaved {
		return false
	}
	if !c.bridge {
		return !isInward(c.Name)
	}
	// A bridge leads where its ports lead. Networks of containers have names of
	// the users' choice, and br-lan is the local network of many a router.
	return (!isInward(c.Name) || strings.HasPrefix(c.Name, "br-")) &&
		slices.ContainsFunc(c.ports, func(port string) bool { return !isInward(port) })
}

func isInward(name string) bool {
	return slices.ContainsFunc(inward(), func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

func nameList(list []candidate) string {
	var names []string
	for _, c := range list {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// usableAddrs returns those of an interface's addresses that others on it can
// use: link-local ones with their zone, and on loopback the IPv4 one, since
// Linux does not carry IPv6 multicast there.
func usableAddrs(i net.Interface, list []netip.Addr) []netip.Addr {
	loopback := i.Flags&net.FlagLoopback != 0
	var addrs []netip.Addr
	for _, addr := range list {
		addr = addr.Unmap()
		if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() != loopback || loopback && !addr.Is4() {
			continue
		}
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(i.Name)
		}
		if len(addrs) < maxAddrs && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// addrOf returns the address of a network that package net names.
func addrOf(a net.Addr) (netip.Addr, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	return addr.Unmap(), ok
}
