//go:build !linux

package mdns

import (
	"context"
	"net"
	"net/netip"
)

// bind opens a UDP socket on a multicast group. Package net binds to the
// unspecified address for it, which these systems want, and sets SO_REUSEADDR
// and, where it exists, SO_REUSEPORT.
func bind(network string, group netip.AddrPort) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(context.Background(), network, group.String())
}
