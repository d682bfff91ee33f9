// Package discoverytest has the conformance suite of discoverers, and a network
// in memory, with faults, for tests of those who use one.
package discoverytest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
)

// Discoverer is budgie.Discoverer, whose package this one does not import.
type Discoverer interface {
	Announce(ctx context.Context, svc discovery.Service) error
	Withdraw(ctx context.Context, id string) error
	Browse(ctx context.Context) (<-chan discovery.Event, error)
	Close() error
}

// Harness is how the suite gets its discoverers.
type Harness struct {
	// New returns a new discoverer, which the suite closes. Those of one test
	// are on one network. Required.
	New func(t testing.TB) Discoverer
	// Alone is true for discoverers that have no network, and know only what
	// is announced through themselves. The suite then announces and browses
	// with the same one.
	Alone bool
	// Wait is how long the suite waits for an event before it fails; zero
	// means ten seconds. It is a bound, not a pause.
	Wait time.Duration
}

// Run runs the suite, each test with a harness of its own. The network may have
// other services on it: the suite looks at none but its own, which have random
// ids.
func Run(t *testing.T, harness func(t *testing.T) Harness) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, b *bench)
	}{
		{"Arrival", testArrival},
		{"Own", testOwn},
		{"Change", testChange},
		{"SameAgain", testSameAgain},
		{"SharesNoMemory", testSharesNoMemory},
		{"Departure", testDeparture},
		{"ReturnAfterDeparture", testReturn},
		{"WithdrawUnknown", testWithdrawUnknown},
		{"CloseWithdraws", testCloseWithdraws},
		{"LateBrowser", testLateBrowser},
		{"SeveralBrowsers", testSeveralBrowsers},
		{"SlowReceiver", testSlowReceiver},
		{"ContextEnd", testContextEnd},
		{"EndedContext", testEndedContext},
		{"Invalid", testInvalid},
		{"Closed", testClosed},
		{"Concurrent", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := harness(t)
			if h.New == nil {
				t.Fatal("the harness has no New")
			}
			if h.Wait == 0 {
				h.Wait = 10 * time.Second
			}
			c.test(t, newBench(t, h))
		})
	}
}

func testArrival(t *testing.T, b *bench) {
	w := b.watch(b.browser)
	svc := b.service("web")
	b.announce(svc)
	e := w.next(svc.ID)
	if e.Type != discovery.Added {
		t.Fatalf("the first event is %v, want %v", e.Type, discovery.Added)
	}
	b.same(e.Service, svc)
	if !b.Alone && len(e.Service.Addrs) == 0 {
		t.Error("the announced service has no addresses")
	}
}

func testOwn(t *testing.T, b *bench) {
	w := b.watch(b.announcer)
	svc := b.service("own")
	b.announce(svc)
	e := w.next(svc.ID)
	if e.Type != discovery.Added {
		t.Fatalf("the first event of an own service is %v, want %v", e.Type, discovery.Added)
	}
	b.same(e.Service, svc)
	b.withdraw(svc.ID)
	if e := w.next(svc.ID); e.Type != discovery.Removed {
		t.Fatalf("after Withdraw the event is %v, want %v", e.Type, discovery.Removed)
	}
}

func testChange(t *testing.T, b *bench) {
	w := b.watch(b.browser)
	svc := b.service("web")
	b.announce(svc)
	w.await(svc.ID, "the first announcement", func(e discovery.Event) bool { return e.Type == discovery.Added })
	svc.Ports = append(svc.Ports, discovery.Port{ContainerPort: 443, HostPort: 8443, Protocol: bunfile.TCP})
	svc.PeerPort++
	svc.Image = "docker.io/library/nginx:2"
	b.announce(svc)
	e := w.await(svc.ID, "the change", func(e discovery.Event) bool {
		if e.Type != discovery.Updated {
			t.Fatalf("a change is told by %v, want %v", e.Type, discovery.Updated)
		}
		return e.Service.PeerPort == svc.PeerPort && e.Service.Image == svc.Image
	})
	b.same(e.Service, svc)

	// A changed name, too, is a change of the same service.
	svc.Name = "renamed"
	b.announce(svc)
	w.await(svc.ID, "the new name", func(e discovery.Event) bool {
		if e.Type != discovery.Updated {
			t.Fatalf("a change of the name is told by %v, want %v", e.Type, discovery.Updated)
		}
		return e.Service.Name == "renamed"
	})
}

func testSameAgain(t *testing.T, b *bench) {
	w := b.watch(b.browser)
	svc, after := b.service("web"), b.service("after")
	b.announce(svc)
	w.next(svc.ID)
	b.announce(svc)
	b.announce(svc)
	b.announce(after)
	w.next(after.ID)
	if n := w.count(svc.ID); n != 1 {
		t.Errorf("announcing the same again gave %d events, want the 1 of the first time", n)
	}
}

// What was announced is what Announce was given, whatever its caller then does
// with the memory; and what one browser does with an event is its own affair.
func testSharesNoMemory(t *testing.T, b *bench) {
	w := b.watch(b.browser)
	svc := b.service("web")
	want := svc
	want.Ports = slices.Clone(svc.Ports)
	b.announce(svc)
	for i := range svc.Ports {
		svc.Ports[i].HostPort = 9
	}
	e := w.next(svc.ID)
	b.same(e.Service, want)
	for i := range e.Service.Ports {
		e.Service.Ports[i].HostPort = 10
	}
	for i := range e.Service.Addrs {
		e.Service.Addrs[i] = netip.Addr{}
	}
	for _, d := range []Discoverer{b.announcer, b.browser, b.another()} {
		late := b.watch(d).next(svc.ID)
		b.same(late.Service, want)
		if slices.Contains(late.Service.Addrs, netip.Addr{}) {
			t.Error("another browser's change of an event shows")
		}
	}
	// With the memory changed this is another announcement, not the same again.
	b.announce(svc)
	e = w.next(svc.ID)
	if e.Type != discovery.Updated {
		t.Errorf("the event is %v, want %v", e.Type, discovery.Updated)
	}
	b.same(e.Service, svc)
	b.withdraw(svc.ID)
	e = w.next(svc.ID)
	if e.Type != discovery.Removed {
		t.Errorf("the event is %v, want %v", e.Type, discovery.Removed)
	}
	b.same(e.Service, svc)
}

func testDeparture(t *testing.T, b *bench) {
	w := b.watch(b.browser)
	svc, stays := b.service("goes"), b.service("stays")
	b.announce(svc)
	b.announce(stays)
	w.next(svc.ID)
	w.next(stays.ID)
	b.withdraw(svc.ID)
	e := w.next(svc.ID)
	if e.Type != discovery.Removed {
		t.Fatalf("after Withdraw the event is %v, want %v", e.Type, discovery.Removed)
	}
	b.same(e.Service, svc)
	if n := w.count(stays.ID); n != 1 {
		t.Errorf("the other service got %d events, want 1", n)
	}
}

func testReturn(t *testing.T, b *bench) {
	w := b.watch(b.browser)
	svc := b.service("web")
	want := []discovery.EventType{discovery.Added, discovery.Removed, discovery.Added, discovery.Removed}
	for i, typ := range want {
		if i%2 == 0 {
			b.announce(svc)
		} else {
			b.withdraw(svc.ID)
		}
		if e := w.next(svc.ID); e.Type != typ {
			t.Fatalf("event %d is %v, want %v", i, e.Type, typ)
		}
	}
}

func testWithdrawUnknown(t *testing.T, b *bench) {
	for _, id := range []string{randomID(), "", "nonsense"} {
		if err := b.announcer.Withdraw(t.Context(), id); err != nil {
			t.Errorf("Withdraw(%q) of what is not announced: %v, want nil", id, err)
		}
	}
	svc := b.service("web")
	b.announce(svc)
	b.withdraw(svc.ID)
	b.withdraw(svc.ID)
}

func testCloseWithdraws(t *testing.T, b *bench) {
	one, two := b.service("one"), b.service("two")
	w := b.watch(b.browser)
	b.announce(one)
	b.announce(two)
	w.next(one.ID)
	w.next(two.ID)
	if err := b.announcer.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if b.Alone {
		w.closed()
		return
	}
	for _, id := range []string{one.ID, two.ID} {
		if e := w.next(id); e.Type != discovery.Removed {
			t.Errorf("after Close the event is %v, want %v", e.Type, discovery.Removed)
		}
	}
}

func testLateBrowser(t *testing.T, b *bench) {
	svc := b.service("web")
	b.announce(svc)
	first := b.watch(b.browser)
	first.next(svc.ID)
	// Whoever comes when the service is known, and on a discoverer that knows
	// nothing yet, learns of it all the same.
	for _, d := range []Discoverer{b.browser, b.announcer, b.another()} {
		if e := b.watch(d).next(svc.ID); e.Type != discovery.Added {
			t.Errorf("the first event of a late browser is %v, want %v", e.Type, discovery.Added)
		}
	}
}

func testSeveralBrowsers(t *testing.T, b *bench) {
	browsers := []*watcher{b.watch(b.browser), b.watch(b.browser), b.watch(b.announcer), b.watch(b.another())}
	svc := b.service("web")
	b.announce(svc)
	for i, w := range browsers {
		if e := w.next(svc.ID); e.Type != discovery.Added {
			t.Errorf("browser %d: the first event is %v, want %v", i, e.Type, discovery.Added)
		}
	}
	browsers[0].stop()
	b.withdraw(svc.ID)
	for i, w := range browsers[1:] {
		if e := w.next(svc.ID); e.Type != discovery.Removed {
			t.Errorf("browser %d: the second event is %v, want %v", i+1, e.Type, discovery.Removed)
		}
	}
}

func testSlowReceiver(t *testing.T, b *bench) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow, err := b.browser.Browse(ctx)
	if err != nil {
		t.Fatalf("Browse: %v", err)
	}
	fast := b.watch(b.browser)
	svc := b.service("web")
	const changes = 30
	for i := range changes {
		svc.PeerPort = 1000 + i
		b.announce(svc)
		fast.await(svc.ID, "every change, while another browser sleeps", func(e discovery.Event) bool {
			return e.Service.PeerPort == svc.PeerPort
		})
	}
	gone := b.service("gone")
	b.announce(gone)
	fast.next(gone.ID)
	b.withdraw(gone.ID)
	fast.next(gone.ID)

	w := b.wrap(slow, cancel)
	last := w.await(svc.ID, "the last state", func(e discovery.Event) bool { return e.Service.PeerPort == svc.PeerPort })
	b.same(last.Service, svc)
	if w.order[svc.ID][0] != discovery.Added {
		t.Errorf("the first event is %v, want %v", w.order[svc.ID][0], discovery.Added)
	}
	// The service that came and went has left nothing.
	b.announce(b.service("end"))
	w.next(b.last.ID)
	if types := w.order[gone.ID]; len(types) > 0 && types[len(types)-1] != discovery.Removed {
		t.Errorf("the events of a service that is gone are %v", types)
	}
}

func testContextEnd(t *testing.T, b *bench) {
	svc := b.service("web")
	b.announce(svc)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := b.announcer.Browse(ctx)
	if err != nil {
		t.Fatalf("Browse: %v", err)
	}
	// Nobody receives the waiting event: the end of ctx closes all the same.
	cancel()
	b.wrap(events, cancel).closed()
	other := b.watch(b.announcer)
	if e := other.next(svc.ID); e.Type != discovery.Added {
		t.Errorf("after the end of another browser the event is %v, want %v", e.Type, discovery.Added)
	}
}

func testEndedContext(t *testing.T, b *bench) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	svc := b.service("web")
	if err := b.announcer.Announce(ctx, svc); !errors.Is(err, context.Canceled) {
		t.Errorf("Announce with an ended context: %v, want %v", err, context.Canceled)
	}
	w := b.watch(b.announcer)
	b.announce(b.service("other"))
	w.next(b.last.ID)
	if n := w.count(svc.ID); n != 0 {
		t.Errorf("what Announce refused was announced: %d events", n)
	}
}

func testInvalid(t *testing.T, b *bench) {
	good := b.service("web")
	for name, spoil := range map[string]func(*discovery.Service){
		"no id":         func(s *discovery.Service) { s.ID = "" },
		"short id":      func(s *discovery.Service) { s.ID = s.ID[:12] },
		"upper case id": func(s *discovery.Service) { s.ID = strings.Repeat("AB", 32) },
		"no name":       func(s *discovery.Service) { s.Name = "" },
		"dotted name":   func(s *discovery.Service) { s.Name = "a.b" },
		"no service id": func(s *discovery.Service) { s.ServiceID = "" },
		"no node":       func(s *discovery.Service) { s.Node = "" },
		"port 0":        func(s *discovery.Service) { s.Ports = []discovery.Port{{ContainerPort: 80, Protocol: bunfile.TCP}} },
		"protocol": func(s *discovery.Service) {
			s.Ports = []discovery.Port{{ContainerPort: 80, HostPort: 80, Protocol: "sctp"}}
		},
		"peer port":  func(s *discovery.Service) { s.PeerPort = 65536 },
		"long image": func(s *discovery.Service) { s.Image = strings.Repeat("i", 2000) },
	} {
		bad := good
		spoil(&bad)
		if err := b.announcer.Announce(t.Context(), bad); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("Announce with %s: %v, want %v", name, err, discovery.ErrInvalid)
		}
	}
	// A refused announcement leaves the one before it.
	b.announce(good)
	bad := good
	bad.Name = ""
	if err := b.announcer.Announce(t.Context(), bad); err == nil {
		t.Error("Announce without a name returned nil")
	}
	b.same(b.watch(b.announcer).next(good.ID).Service, good)
}

func testClosed(t *testing.T, b *bench) {
	w := b.watch(b.announcer)
	for range 2 {
		if err := b.announcer.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	w.closed()
	if err := b.announcer.Announce(t.Context(), b.service("web")); !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("Announce after Close: %v, want %v", err, discovery.ErrClosed)
	}
	if _, err := b.announcer.Browse(t.Context()); !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("Browse after Close: %v, want %v", err, discovery.ErrClosed)
	}
	if err := b.announcer.Withdraw(t.Context(), randomID()); err != nil && !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("Withdraw after Close: %v, want nil or %v", err, discovery.ErrClosed)
	}
}

func testConcurrent(t *testing.T, b *bench) {
	w := b.watch(b.browser)
	const workers = 8
	ids := make(chan string, workers)
	for range workers {
		svc := b.service("many")
		go func() {
			defer func() { ids <- svc.ID }()
			if err := b.announcer.Announce(t.Context(), svc); err != nil {
				t.Errorf("Announce: %v", err)
			}
		}()
	}
	var all []string
	for range workers {
		all = append(all, <-ids)
	}
	for _, id := range all {
		if e := w.next(id); e.Type != discovery.Added {
			t.Errorf("event %v, want %v", e.Type, discovery.Added)
		}
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != workers {
		t.Error("the ids of the suite are not unique")
	}
}
