package budgie_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/trust"
)

// A node without a replica serves a UDP address with those of two others: a client
// keeps its replica, and gets another one when that has gone.
func TestBalanceServesUDP(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	seen := newSessions()
	a, b, door := newNode(t, network, token), newNode(t, network, token), newNode(t, network, token, budgie.WithObserver(seen))
	first, err := a.Run(t.Context(), dns("dns"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Join(t.Context(), "dns")
	if err != nil {
		t.Fatal(err)
	}
	front, err := door.Balance(t.Context(), "dns", "127.0.0.1:0", budgie.WithMode(balance.ModeUDP))
	if err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, front, 2)
	var clients []net.Conn
	for i := range 12 {
		c := dialUDP(t, front.Addr().String())
		clients = append(clients, c)
		for j := range 3 {
			if got, want := ask(t, c, fmt.Sprint(i, j)), fmt.Sprint(i, j); got != want {
				t.Fatalf("client %d got %q, want %q", i, got, want)
			}
		}
	}
	for _, b := range front.Status() {
		if b.Requests != 6 {
			t.Errorf("%d of 12 clients are at replica %s", b.Requests, b.ID)
		}
	}
	if err := b.Stop(t.Context(), "dns"); err != nil {
		t.Fatal(err)
	}
	for i, c := range clients {
		if got := ask(t, c, fmt.Sprint("after ", i)); got != fmt.Sprint("after ", i) {
			t.Fatalf("client %d then got %q", i, got)
		}
	}
	if err := front.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := seen.of(second.ID); n != 6 {
		t.Errorf("%d of 12 clients were answered by the one that was stopped", n)
	}
	if n := seen.of(first.ID); n != len(clients) {
		t.Errorf("%d of 12 clients were answered by the one that was left", n)
	}
}

// Replicas of the service without a UDP port are left aside, on other nodes and on
// this machine; those that nobody proves are used at their published port.
func TestBalanceOfUDPNeedsUDPPorts(t *testing.T) {
	for name, own := range map[string]bool{"OtherNodes": false, "ThisMachine": true} {
		t.Run(name, func(t *testing.T) {
			network, token := discoverytest.NewNetwork(), trust.NewToken()
			node := func() *fakes {
				if !own {
					return newNode(t, network, token)
				}
				f := newFakes(t)
				f.network, f.node = network, network.Join(netip.MustParseAddr("127.0.0.1"))
				f.Client = f.client(t)
				return f
			}
			without, with, door := node(), node(), node()
			if _, err := without.Run(t.Context(), web("dns")); err != nil {
				t.Fatal(err)
			}
			tcp, err := door.Balance(t.Context(), "dns", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			awaitBackends(t, tcp, 1)
			front, err := door.Balance(t.Context(), "dns", tcp.Addr().String(), budgie.WithMode(balance.ModeUDP))
			if err != nil {
				t.Fatal(err)
			}
			rec, err := with.Run(t.Context(), dns("dns"))
			if err != nil {
				t.Fatal(err)
			}
			awaitBackends(t, tcp, 2)
			if s := awaitBackends(t, front, 1); s[0].ID != rec.ID {
				t.Errorf("it has no UDP port: %+v", s[0])
			}
			if got := ask(t, dialUDP(t, front.Addr().String()), "who?"); got != "who?" {
				t.Errorf("it answers %q", got)
			}
		})
	}
}
