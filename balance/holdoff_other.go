//go:build !linux

package balance

import "net"

// holdOff lets the kernel begin no further TCP handshake on a listening socket,
// where there is a way to ask that of it. Here there is none: newcomers are
// taken until the backlog is empty, and who comes between that and the closing
// of the socket, a few microseconds, is reset.
func holdOff(net.Listener) (letGo func()) { return nil }
