package peer_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/budgiehq/budgie/peer"
)

// Several endpoints on a host have ports of their own, beginning with the
// default one where that is free.
func TestListen(t *testing.T) {
	seen := make(map[uint16]bool)
	for i := range 40 {
		ln, err := peer.Listen(t.Context(), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		port := netip.MustParseAddrPort(ln.Addr().String()).Port()
		if seen[port] {
			t.Errorf("port %d twice", port)
		}
		if i == 0 && (port < peer.DefaultPort || port >= peer.DefaultPort+32) {
			t.Logf("the first port is %d: others on this machine have those from %d on", port, peer.DefaultPort)
		}
		seen[port] = true
	}
	if !seen[peer.DefaultPort] {
		// Somebody else must have it, or it would have been taken.
		if ln, err := net.Listen("tcp", "127.0.0.1:18733"); err == nil {
			_ = ln.Close() // it was free
			t.Error("the default port is free, and was not taken")
		}
	}
}

func TestListenErrors(t *testing.T) {
	if ln, err := peer.Listen(t.Context(), "192.0.2.1"); err == nil {
		_ = ln.Close() // it should not be there
		t.Error("it listens on an address of another machine")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ln, err := peer.Listen(ctx, "127.0.0.1"); !errors.Is(err, context.Canceled) {
		if err == nil {
			_ = ln.Close() // it should not be there
		}
		t.Errorf("with a context that has ended: %v", err)
	}
}
