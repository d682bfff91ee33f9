package budgie

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/trust"
)

// When another process has taken over at a node, a replica there has another address:
// what is kept for further requests goes by the former process, and is given up before
// that ends. Sessions of datagrams stay where they are.
func TestBackendsOfNodesThatWereTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Client{log: slog.New(slog.DiscardHandler)}
		var b *rosterBench
		tunnels := newTunnels(func() (*trust.Flock, error) { return b.flock, nil })
		at := make(map[bunfile.Protocol]string)
		b = newUnstartedBench(t, 0, func(id string) {
			for _, p := range []bunfile.Protocol{bunfile.TCP, bunfile.UDP} {
				backend, ok := c.backend(b.roster, tunnels, id, balanced{"web", p})
				if at[p] = backend.Addr; !ok {
					at[p] = ""
				}
			}
		})
		b.start()
		defer b.end()
		s := b.service("1", "10.0.0.1")
		b.announce(s)
		serving := peer.Container{
			ID: s.ID, ServiceID: s.ServiceID, Name: "web", Node: s.Node, Ready: true,
			Endpoints: []lifecycle.Endpoint{{ContainerPort: 80, Port: 80, Protocol: bunfile.TCP}, {ContainerPort: 53, Port: 53, Protocol: bunfile.UDP}},
		}
		want := func(tcp, udp string) {
			t.Helper()
			if at[bunfile.TCP] != tcp || at[bunfile.UDP] != udp {
				t.Errorf("the replica is at %q and %q, want %q and %q", at[bunfile.TCP], at[bunfile.UDP], tcp, udp)
			}
		}
		b.last(1).say(nil, serving)
		want(s.ID+".peer.invalid:80", s.ID+".peer.invalid:53")
		b.last(1).say(nil, serving)
		want(s.ID+".peer.invalid:80", s.ID+".peer.invalid:53")
		time.Sleep(rosterRetry)
		b.last(1).say(peer.ErrSentAway)
		b.last(2).say(nil, serving)
		want(s.ID+".1.peer.invalid:80", s.ID+".peer.invalid:53")
		b.last(2).say(nil, serving)
		want(s.ID+".1.peer.invalid:80", s.ID+".peer.invalid:53")

		// Whatever the address is, it leads to the replica.
		for _, addr := range []string{s.ID + ".peer.invalid:80", s.ID + ".1.peer.invalid:80"} {
			var asked string
			_, remote, err := tunnels.reach(t.Context(), addr, func(_ *peer.Client, _ context.Context, id string, _ int) (_ net.Conn, err error) {
				asked = id
				return nil, context.Canceled
			})
			if asked != s.ID || !remote || err != context.Canceled {
				t.Errorf("%s leads to %.12q, %t, %v", strings.TrimPrefix(addr, s.ID), asked, remote, err)
			}
		}
	})
}
