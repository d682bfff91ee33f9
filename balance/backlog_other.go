//go:build !linux && !darwin

package balance

import "net"

// backlogged reports whether a connection waits to be accepted, which is not
// known here.
func backlogged(net.Listener) (waiting, known bool) { return false, false }
