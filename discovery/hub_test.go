package discovery_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/budgiehq/budgie/discovery"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func named(digit, name string) discovery.Service {
	return discovery.Service{ID: strings.Repeat(digit, 64), Name: name}
}

// A receiver that sleeps through changes is told the difference, once.
func TestHubMergesForSlowReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := discovery.NewHub()
		defer h.Close()
		h.Set(named("a", "one"))
		h.Set(named("b", "two"))
		events, err := h.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the first event waits
		h.Set(named("a", "eins"))
		h.Set(named("b", "zwei"))
		h.Delete(named("b", "").ID)
		h.Set(named("c", "drei"))
		h.Delete(named("d", "").ID)
		synctest.Wait()
		for _, want := range []string{"added eins", "added drei"} {
			if e := <-events; e.Type.String()+" "+e.Service.Name != want {
				t.Errorf("got %v %s, want %s", e.Type, e.Service.Name, want)
			}
		}
		synctest.Wait()
		select {
		case e := <-events:
			t.Errorf("unexpected %v", e)
		default:
		}
	})
}

func TestHubClose(t *testing.T) {
	h := discovery.NewHub()
	events, err := h.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := h.Subscribers(); n != 1 {
		t.Errorf("%d subscribers, want 1", n)
	}
	h.Close()
	h.Close()
	if _, open := <-events; open {
		t.Error("the channel is open after Close")
	}
	if n := h.Subscribers(); n != 0 {
		t.Errorf("%d subscribers after Close, want 0", n)
	}
	h.Set(named("a", "one"))
	h.Delete(named("a", "one").ID)
	if _, err := h.Subscribe(t.Context()); !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("Subscribe after Close: %v, want %v", err, discovery.ErrClosed)
	}
}

// Whatever happens, in whatever order it is received: per ID the events are
// Added, any number of Updated, Removed, and together they give the last state.
func TestHubEventsGiveTheState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := discovery.NewHub()
		defer h.Close()
		events, err := h.Subscribe(t.Context())
		if err != nil {
			rt.Fatal(err)
		}
		truth, told := map[string]string{}, map[string]string{}
		receive := func() {
			e := <-events
			id := e.Service.ID
			old, known := told[id]
			if known != (e.Type != discovery.Added) || e.Type == discovery.Updated && old == e.Service.Name {
				rt.Fatalf("%v %s for a receiver that knows %q (%t)", e.Type, e.Service.Name, old, known)
			}
			told[id] = e.Service.Name
			if e.Type == discovery.Removed {
				delete(told, id)
			}
		}
		for range rapid.IntRange(0, 50).Draw(rt, "steps") {
			digit := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "id")
			name := rapid.SampledFrom([]string{"x", "y", ""}).Draw(rt, "name")
			svc := named(digit, name)
			if name == "" {
				h.Delete(svc.ID)
				delete(truth, svc.ID)
			} else {
				h.Set(svc)
				truth[svc.ID] = name
			}
			if rapid.Bool().Draw(rt, "receive") && len(truth) > 0 && len(told) == 0 {
				receive()
			}
		}
		// If an event were missing, this would wait for ever.
		for !maps.Equal(told, truth) {
			receive()
		}
	})
}

func TestCollect(t *testing.T) {
	events := make(chan discovery.Event, 8)
	for _, e := range []discovery.Event{
		{Type: discovery.Added, Service: named("b", "web")},
		{Type: discovery.Added, Service: named("a", "web")},
		{Type: discovery.Added, Service: named("c", "api")},
		{Type: discovery.Added, Service: named("d", "gone")},
		{Type: discovery.Updated, Service: named("c", "zoo")},
		{Type: discovery.Removed, Service: named("d", "gone")},
		{Type: discovery.Removed, Service: named("e", "never there")},
	} {
		events <- e
	}
	close(events)
	var got []string
	for _, s := range discovery.Collect(t.Context(), events) {
		got = append(got, s.ID[:1]+" "+s.Name)
	}
	if want := "a web,b web,c zoo"; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCollectEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan discovery.Event)
	go func() {
		events <- discovery.Event{Type: discovery.Added, Service: named("a", "web")}
		cancel()
	}()
	if got := discovery.Collect(ctx, events); len(got) != 1 {
		t.Errorf("got %v, want the one service", got)
	}
}

func TestEqualIgnoresTheOrderOfAddresses(t *testing.T) {
	a, b := web(), web()
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1%eth0")
	a.Addrs, b.Addrs = []netip.Addr{one, two}, []netip.Addr{two, one}
	if !a.Equal(b) {
		t.Error("the order of addresses matters")
	}
	b.Addrs[0] = netip.MustParseAddr("fe80::1%eth1")
	if a.Equal(b) {
		t.Error("the zone does not matter")
	}
	for typ, want := range map[discovery.EventType]string{discovery.Updated: "updated", 0: "unknown"} {
		if typ.String() != want {
			t.Errorf("event type %d is %q, want %q", typ, typ, want)
		}
	}
}
