package discoverytest_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	discoverytest.Run(t, func(*testing.T) discoverytest.Harness {
		network := discoverytest.NewNetwork()
		return discoverytest.Harness{New: func(testing.TB) discoverytest.Discoverer { return network.Join() }}
	})
}

func service(digit string) discovery.Service {
	return discovery.Service{ID: strings.Repeat(digit, 64), ServiceID: "s", Name: "web-" + digit, Node: "n"}
}

func announce(t *testing.T, n *discoverytest.Node, digit string) {
	t.Helper()
	if err := n.Announce(t.Context(), service(digit)); err != nil {
		t.Fatal(err)
	}
}

// sees fails unless a node knows just the given services. A new browser is
// told what is known in order of ids, and the node's own marker, with the
// highest id, comes last.
func sees(t *testing.T, n *discoverytest.Node, digits ...string) {
	t.Helper()
	announce(t, n, "f")
	defer n.Withdraw(t.Context(), service("f").ID)
	events, err := n.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e := range events {
		if e.Service.ID[:1] == "f" {
			break
		}
		got = append(got, e.Service.ID[:1])
	}
	if !slices.Equal(got, digits) {
		t.Errorf("the node sees %v, want %v", got, digits)
	}
}

func three(t *testing.T) (net *discoverytest.Network, a, b, c *discoverytest.Node) {
	net = discoverytest.NewNetwork()
	a, b, c = net.Join(), net.Join(), net.Join()
	t.Cleanup(func() { a.Close(); b.Close(); c.Close() })
	return net, a, b, c
}

func TestPartition(t *testing.T) {
	net, a, b, c := three(t)
	announce(t, a, "1")
	net.Partition(b, c)
	announce(t, a, "2")
	announce(t, b, "3")
	sees(t, a, "1", "2")
	sees(t, b, "1", "3") // not noticed yet
	sees(t, c, "1", "3") // on the side of b
	net.Expire()
	sees(t, a, "1", "2")
	sees(t, b, "3")
	sees(t, c, "3")
	if err := a.Withdraw(t.Context(), service("1").ID); err != nil {
		t.Fatal(err)
	}
	net.Heal()
	for _, n := range []*discoverytest.Node{a, b, c} {
		sees(t, n, "2", "3")
	}
}

func TestDrop(t *testing.T) {
	net, a, b, c := three(t)
	net.Drop(2)
	announce(t, a, "1")
	sees(t, a, "1")
	sees(t, b)
	sees(t, c)
	announce(t, a, "1")
	sees(t, b, "1")
	net.Drop(1)
	if err := a.Withdraw(t.Context(), service("1").ID); err != nil {
		t.Fatal(err)
	}
	sees(t, b, "1")
	sees(t, c)
	net.Heal()
	sees(t, b)
}

func TestKill(t *testing.T) {
	net, a, b, _ := three(t)
	announce(t, a, "1")
	a.Kill()
	sees(t, b, "1")
	if err := a.Announce(t.Context(), service("2")); !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("Announce of a killed node: %v, want %v", err, discovery.ErrClosed)
	}
	net.Expire()
	sees(t, b)
}

func TestJoinKnowsWhatIsThere(t *testing.T) {
	net, a, _, _ := three(t)
	announce(t, a, "1")
	late := net.Join(netip.MustParseAddr("192.0.2.9"))
	defer late.Close()
	sees(t, late, "1")
	announce(t, late, "2")
	events, err := a.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-events
	if e := <-events; len(e.Service.Addrs) != 1 || e.Service.Addrs[0].String() != "192.0.2.9" {
		t.Errorf("announced with addresses %v, want those of the node", e.Service.Addrs)
	}
}

func TestSameIDTwice(t *testing.T) {
	_, a, b, c := three(t)
	announce(t, a, "1")
	announce(t, b, "1")
	if err := b.Withdraw(t.Context(), service("1").ID); err != nil {
		t.Fatal(err)
	}
	sees(t, a, "1")
	sees(t, b, "1")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, b)
	_ = c
}
