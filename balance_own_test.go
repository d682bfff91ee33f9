package budgie_test

import (
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// On a machine that runs a replica itself, Balance leads to the replica, and not to its
// published port, which would balance a second time, whichever process runs it.
func TestBalanceBesideAReplica(t *testing.T) {
	for name, same := range map[string]bool{"SameProcess": true, "OtherProcess": false} {
		t.Run(name, func(t *testing.T) {
			network := discoverytest.NewNetwork()
			published := &watching{names: make(map[string]int)}
			fake, dir, node := runtimetest.NewFake(runtimetest.WithHandler(echoName("a"))), t.TempDir(), network.Join()
			t.Cleanup(fake.Shutdown)
			client := func(opts ...budgie.Option) *budgie.Client {
				// The data directory has the machine's identity.
				c, err := budgie.New(append(opts, budgie.WithDataDir(dir), budgie.WithRuntime(fake), budgie.WithDiscoverer(node), budgie.WithLoopback())...)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				return c
			}
			a := client(budgie.WithObserver(published))
			token, err := a.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b := newNamedNode(t, "b", network, token)
			rec, err := a.Run(t.Context(), web("web"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Join(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
			balancer := a
			if !same {
				balancer = client()
			}
			front, err := balancer.Balance(t.Context(), rec.ServiceID[:12], "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			awaitBackends(t, front, 2)
			by := make(map[string]int)
			for range 20 {
				by[fetch(t, "http://"+front.Addr().String())]++
			}
			if by["a"] != 10 || by[fromB] != 10 {
				t.Errorf("answered by %v", by)
			}
			if n := published.count("web"); n > 0 {
				t.Errorf("%d requests came by the published port", n)
			}
		})
	}
}
