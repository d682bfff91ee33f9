package mdns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookEvery is the time between two looks at the interfaces for the case that
// no news of them came: rtnetlink tells everything, and may drop some of it.
const lookEvery = 30 * time.Second

// interfaces returns all interfaces of this machine, from rtnetlink(7), which
// says more than package net does: carrier, bridges, and the IPv6 addresses
// that cannot be used because duplicates are still looked for (RFC 4862
// section 5.4) or were found.
func interfaces() ([]candidate, error) {
	var links []ifLink
	if err := dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, func(m *syscall.NetlinkMessage) {
		if l, ok := parseLink(m); ok {
			links = append(links, l)
		}
	}); err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	addrs := make(map[int][]netip.Addr)
	if err := dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, func(m *syscall.NetlinkMessage) {
		if index, addr, ok := parseAddr(m); ok {
			addrs[index] = append(addrs[index], addr)
		}
	}); err != nil {
		return nil, fmt.Errorf("list addresses of network interfaces: %w", err)
	}
	return candidates(links, addrs), nil
}

// ifLink is an interface as RTM_NEWLINK describes it.
type ifLink struct {
	net.Interface
	kind   string
	master int
}

func candidates(links []ifLink, addrs map[int][]netip.Addr) []candidate {
	list := make([]candidate, 0, len(links))
	for _, l := range links {
		c := candidate{
			Interface: l.Interface, addrs: usableAddrs(l.Interface, addrs[l.Index]),
			noCarrier: l.Flags&net.FlagRunning == 0, bridge: l.kind == "bridge",
		}
		for _, o := range links {
			if o.Index == l.master && o.kind != "vrf" {
				c.enslaved = true
			}
			if c.bridge && o.master == l.Index {
				c.ports = append(c.ports, o.Name)
			}
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b candidate) int { return a.Index - b.Index })
	return list
}

// dump asks rtnetlink for all of something and calls do for each answer.
func dump(request int, answer uint16, do func(*syscall.NetlinkMessage)) error {
	data, err := syscall.NetlinkRIB(request, unix.AF_UNSPEC)
	if err != nil {
		return os.NewSyscallError("netlink", err)
	}
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return os.NewSyscallError("netlink", err)
	}
	for _, m := range messages {
		if m.Header.Type == answer {
			do(&m)
		}
	}
	return nil
}

func parseLink(m *syscall.NetlinkMessage) (ifLink, bool) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return ifLink{}, false
	}
	var l ifLink
	l.Index = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	l.Flags = flagsOf(binary.NativeEndian.Uint32(m.Data[8:]))
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return ifLink{}, false
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFLA_IFNAME:
			l.Name = strings.TrimRight(string(a.Value), "\x00")
		case unix.IFLA_MTU:
			if len(a.Value) >= 4 {
				l.MTU = int(binary.NativeEndian.Uint32(a.Value))
			}
		case unix.IFLA_MASTER:
			if len(a.Value) >= 4 {
				l.master = int(binary.NativeEndian.Uint32(a.Value))
			}
		case unix.IFLA_LINKINFO:
			l.kind = kindOf(a.Value)
		}
	}
	return l, l.Name != ""
}

// kindOf finds IFLA_INFO_KIND in the attributes inside IFLA_LINKINFO.
func kindOf(data []byte) string {
	for len(data) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(data))
		if n < unix.SizeofRtAttr || n > len(data) {
			break
		}
		if binary.NativeEndian.Uint16(data[2:]) == unix.IFLA_INFO_KIND {
			return strings.TrimRight(string(data[unix.SizeofRtAttr:n]), "\x00")
		}
		data = data[min(len(data), (n+3)&^3):]
	}
	return ""
}

func flagsOf(raw uint32) net.Flags {
	var flags net.Flags
	for _, f := range []struct {
		raw  uint32
		flag net.Flags
	}{
		{unix.IFF_UP, net.FlagUp}, {unix.IFF_RUNNING, net.FlagRunning}, {unix.IFF_BROADCAST, net.FlagBroadcast},
		{unix.IFF_LOOPBACK, net.FlagLoopback}, {unix.IFF_POINTOPOINT, net.FlagPointToPoint}, {unix.IFF_MULTICAST, net.FlagMulticast},
	} {
		if raw&f.raw != 0 {
			flags |= f.flag
		}
	}
	return flags
}

// parseAddr returns the address in an RTM_NEWADDR message and the index of its
// interface, and false for addresses that cannot be used.
func parseAddr(m *syscall.NetlinkMessage) (int, netip.Addr, bool) {
	if len(m.Data) < unix.SizeofIfAddrmsg {
		return 0, netip.Addr{}, false
	}
	flags, index := m.Data[2], int(binary.NativeEndian.Uint32(m.Data[4:]))
	tentative := flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
	if tentative || flags&unix.IFA_F_DADFAILED != 0 {
		return 0, netip.Addr{}, false
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return 0, netip.Addr{}, false
	}
	var addr netip.Addr
	for _, a := range attrs {
		// With a peer, IFA_ADDRESS is the peer's.
		if a.Attr.Type == unix.IFA_LOCAL || a.Attr.Type == unix.IFA_ADDRESS && !addr.IsValid() {
			if found, ok := netip.AddrFromSlice(a.Value); ok {
				addr = found
			}
		}
	}
	return index, addr, addr.IsValid()
}

// news tells of changes of the interfaces.
type news struct{ file *os.File }

// openNews subscribes to what rtnetlink says of interfaces and addresses.
func openNews() (*news, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return &news{os.NewFile(uintptr(fd), "rtnetlink")}, nil
}

// wait returns when something has changed, or an error after close. What it is
// does not matter: it is looked up.
func (n *news) wait() error {
	// What does not fit in is cut off.
	buf := make([]byte, 4096)
	_, err := n.file.Read(buf)
	if errors.Is(err, unix.ENOBUFS) {
		// Some news was lost. The look that follows makes up for it.
		return nil
	}
	return err
}

func (n *news) close() error { return n.file.Close() }
