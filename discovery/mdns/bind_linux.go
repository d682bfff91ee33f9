package mdns

import (
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// bind opens a UDP socket on a multicast group. For IPv4 the address is the group's and
// not the unspecified one, which package net would make of it, so that unicast
// packets to port 5353 still reach the avahi or systemd-resolved of this
// machine: Linux gives each of those to one socket alone.
func bind(network string, group netip.AddrPort) (net.PacketConn, error) {
	// A link-local group of IPv6 can be bound per interface only, and one socket is
	// to serve all.
	family, sockaddr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(group.Port())})
	if network == "udp4" {
		family, sockaddr = unix.AF_INET, &unix.SockaddrInet4{Port: int(group.Port()), Addr: group.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), network)
	defer f.Close() // FilePacketConn works on a copy
	for _, o := range []struct {
		level, name, value int
		needed             bool
	}{
		// Both, since other programs set one or the other.
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, true},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, false},
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, family == unix.AF_INET6},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil && o.needed {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sockaddr); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return net.FilePacketConn(f)
}
