package budgie

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
	"github.com/budgiehq/budgie/trust"
)

// A host is found by its announcement, and by its address where that was given, by
// those that look for hosts; who asks what is announced sees replicas alone. It is
// gone with its supervision.
func TestHostIsFound(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	client := func(network *discoverytest.Network, opts ...Option) *Client {
		fake, node, store := runtimetest.NewFake(), network.Join(), memory.New()
		c, err := New(append(opts, WithDataDir(t.TempDir()), WithLoopback(), WithRuntime(fake), WithDiscoverer(node), WithStore(store), WithToken(token))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = c.Close()
			fake.Shutdown()
			_ = node.Close()
			_ = store.Close()
		})
		return c
	}
	host, near := client(network), client(network)
	hosting, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.Supervise(hosting, Hosting(HostPolicy{})) }()
	announced := nextEvent(t, near, discovery.Added)
	if s := announced.Service; !s.Host || s.PeerPort == 0 || s.Node == "" {
		t.Fatalf("it is announced as %+v", s)
	}
	far := client(discoverytest.NewNetwork(), WithPeers(fmt.Sprint("127.0.0.1:", announced.Service.PeerPort)))
	if told := nextEvent(t, far, discovery.Added); !told.Service.Equal(announced.Service) {
		t.Errorf("by its address it is %+v, announced as %+v", told.Service, announced.Service)
	}
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	events, err := near.Discover(soon)
	if err != nil {
		t.Fatal(err)
	}
	if list := discovery.Collect(soon, events); len(list) != 0 {
		t.Errorf("Discover tells of %+v", list)
	}
	raw, err := near.browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-raw
	end()
	<-ended
	if e := <-raw; e.Type != discovery.Removed {
		t.Errorf("after its end there is %+v", e)
	}
	if host.hosting() != nil {
		t.Error("it still says that it is a host")
	}
}

// nextEvent returns the first event of a kind.
func nextEvent(t *testing.T, c *Client, kind discovery.EventType) discovery.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events, err := c.browse(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Type == kind {
			return e
		}
	}
	t.Fatal("nothing is found")
	return discovery.Event{}
}
