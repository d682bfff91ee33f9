package static_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/discovery/static"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	discoverytest.Run(t, func(t *testing.T) discoverytest.Harness {
		return discoverytest.Harness{
			New:   func(testing.TB) discoverytest.Discoverer { return static.New() },
			Alone: true,
		}
	})
}

func service(digit, name string) discovery.Service {
	return discovery.Service{ID: strings.Repeat(digit, 64), ServiceID: "s", Name: name, Node: "n"}
}

// next returns the next event, which must come without anything else happening.
func next(t *testing.T, events <-chan discovery.Event) (discovery.EventType, string) {
	t.Helper()
	e, open := <-events
	if !open {
		t.Fatal("the channel was closed")
	}
	return e.Type, e.Service.Name
}

func TestSetShowsTheDifference(t *testing.T) {
	d := static.New(service("a", "one"), service("b", "two"))
	defer d.Close()
	events, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := func(typ discovery.EventType, name string) {
		t.Helper()
		if gotType, gotName := next(t, events); gotType != typ || gotName != name {
			t.Fatalf("event %v %s, want %v %s", gotType, gotName, typ, name)
		}
	}
	want(discovery.Added, "one")
	want(discovery.Added, "two")
	// b stays as it is and gives no event.
	d.Set(service("b", "two"), service("c", "three"))
	got := map[string]discovery.EventType{}
	for range 2 {
		typ, name := next(t, events)
		got[name] = typ
	}
	if got["one"] != discovery.Removed || got["three"] != discovery.Added {
		t.Fatalf("events %v, want one removed and three added", got)
	}
	d.Set(service("b", "zwei"), service("c", "three"))
	want(discovery.Updated, "zwei")
}

func TestAnnouncedHidesGiven(t *testing.T) {
	d := static.New(service("a", "given"))
	defer d.Close()
	events, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next(t, events)
	if err := d.Announce(t.Context(), service("a", "announced")); err != nil {
		t.Fatal(err)
	}
	if typ, name := next(t, events); typ != discovery.Updated || name != "announced" {
		t.Fatalf("event %v %s after Announce", typ, name)
	}
	// Set does not touch what is announced.
	d.Set()
	d.Set(service("a", "other"))
	if err := d.Withdraw(t.Context(), service("a", "").ID); err != nil {
		t.Fatal(err)
	}
	if typ, name := next(t, events); typ != discovery.Updated || name != "other" {
		t.Fatalf("event %v %s after Withdraw", typ, name)
	}
}

func TestAddressesStay(t *testing.T) {
	svc := service("a", "one")
	svc.Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	d := static.New()
	defer d.Close()
	if err := d.Announce(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	events, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := <-events
	if !e.Service.Equal(svc) {
		t.Fatalf("received %+v, want %+v", e.Service, svc)
	}
	// The receiver may do with an event as it likes.
	e.Service.Addrs[0] = netip.Addr{}
	again, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e := <-again; !e.Service.Equal(svc) {
		t.Fatalf("a receiver changed what others see: %+v", e.Service)
	}
}

func TestSetAfterCloseIsHarmless(t *testing.T) {
	d := static.New()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.Set(service("a", "one"))
	if _, err := d.Browse(t.Context()); err == nil {
		t.Fatal("Browse after Close returned nil")
	}
}

func Example() {
	d := static.New(discovery.Service{
		ID: strings.Repeat("a", 64), ServiceID: "web", Name: "web", Node: "left",
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, PeerPort: 7946,
	})
	defer d.Close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events, err := d.Browse(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	e := <-events
	fmt.Println(e.Type, e.Service.Name, e.Service.Addrs[0], e.Service.PeerPort)

	// Set replaces the list; browsers are told what is different.
	d.Set()
	fmt.Println((<-events).Type)

	// Output:
	// added web 192.0.2.1 7946
	// removed
}

// What is given, and what is announced, is kept for later: it must not change
// with the caller's memory.
func TestKeepsNoMemory(t *testing.T) {
	given := discovery.Service{
		ID: strings.Repeat("ab", 32), ServiceID: "shop", Name: "given", Node: "node",
		Ports: []discovery.Port{{ContainerPort: 80, HostPort: 8080, Protocol: bunfile.TCP}},
	}
	d := static.New(given)
	defer d.Close()
	over := given
	over.Name, over.Ports = "announced", slices.Clone(given.Ports)
	if err := d.Announce(t.Context(), over); err != nil {
		t.Fatal(err)
	}
	given.Ports[0].HostPort, over.Ports[0].HostPort = 1, 2
	first := func() discovery.Service {
		events, err := d.Browse(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return (<-events).Service
	}
	d.Set(given) // publishes anew what is announced
	if s := first(); s.Name != "announced" || s.Ports[0].HostPort != 8080 {
		t.Errorf("the announced service is %+v", s)
	}
	given.Ports[0].HostPort = 3
	if err := d.Withdraw(t.Context(), given.ID); err != nil {
		t.Fatal(err)
	}
	if s := first(); s.Name != "given" || s.Ports[0].HostPort != 1 {
		t.Errorf("the given service is %+v", s)
	}
}
