package mdns

import (
	"errors"
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
		"docker", "br-", "veth", "cni", "cbr", "flannel", "cali", "cilium", "lxc", "lxdbr", "weave", "vxlan", "kube",
		"nerdctl", "podman", "virbr", "vnet", "vmnet", "vboxnet", "tun", "tap", "wg", "tailscale", "zt", "dummy", "ifb",
		"budgie", "nodelocaldns", "nat64", "ovs", "vEthernet (",
		// macOS: peer-to-peer Wi-Fi, tunnels, and the bridge of its virtual machines.
		"awdl", "llw", "utun", "bridge", "anpi", "gif", "stf", "ap1",
	}
}

// candidate is an interface, as far as it matters for the choice.
type candidate struct {
	net.Interface
	addrs []netip.Addr
}

// chooseInterfaces returns the named interfaces, or, without names, those that
// lead to the local network.
func chooseInterfaces(names []string) ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	list := make([]candidate, 0, len(all))
	for _, i := range all {
		list = append(list, candidate{i, interfaceAddrs(i)})
	}
	return choose(list, names)
}

// choose picks from a list. Without names, loopback is the last resort.
func choose(list []candidate, names []string) ([]net.Interface, error) {
	var chosen []net.Interface
	for _, name := range names {
		i := slices.IndexFunc(list, func(c candidate) bool { return c.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no network interface %q: choose one of %s", name, nameList(list))
		}
		if list[i].Flags&net.FlagUp == 0 {
			return nil, fmt.Errorf("network interface %q is down", name)
		}
		if len(list[i].addrs) == 0 {
			return nil, fmt.Errorf("network interface %q has no address", name)
		}
		chosen = append(chosen, list[i].Interface)
	}
	if len(names) > 0 {
		return chosen, nil
	}
	for _, c := range list {
		if leadsOutside(c) {
			chosen = append(chosen, c.Interface)
		}
	}
	for _, c := range list {
		if len(chosen) == 0 && c.Flags&net.FlagLoopback != 0 && c.Flags&net.FlagUp != 0 && len(c.addrs) > 0 {
			chosen = append(chosen, c.Interface)
		}
	}
	if len(chosen) == 0 {
		return nil, errors.New("no network interface is up and has an address, not even loopback")
	}
	return chosen, nil
}

func leadsOutside(c candidate) bool {
	const never = net.FlagLoopback | net.FlagPointToPoint
	if c.Flags&net.FlagUp == 0 || c.Flags&net.FlagMulticast == 0 || c.Flags&never != 0 || len(c.addrs) == 0 {
		return false
	}
	return !slices.ContainsFunc(inward(), func(prefix string) bool { return strings.HasPrefix(c.Name, prefix) })
}

func nameList(list []candidate) string {
	var names []string
	for _, c := range list {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// interfaceAddrs returns the addresses of an interface that others on it can
// use, as they are now: link-local ones with their zone, and on loopback the
// IPv4 one, since Linux does not carry IPv6 multicast there.
func interfaceAddrs(i net.Interface) []netip.Addr {
	list, err := i.Addrs()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		loopback := i.Flags&net.FlagLoopback != 0
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
