package mdns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/discovery"
)

// D7: a changed address is announced at once, and the service stays the same.
func TestChangedAddressIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, plug := b.node(t, "192.0.2.1")
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		announce(t, a, replica(1, "web"))
		time.Sleep(time.Minute)
		start := time.Now()
		plug.change("192.0.2.77", false)
		time.Sleep(10 * time.Second)
		var at []time.Duration
		for _, s := range b.sent(start) {
			if s.from.Addr() == netip.MustParseAddr("192.0.2.77") && s.pkt.response {
				at = append(at, s.at.Sub(start))
			}
		}
		// What comes later answers questions.
		if len(at) < 2 || !slices.Equal(at[:2], []time.Duration{0, time.Second}) {
			t.Errorf("announced after %v, want at once and after a second", at)
		}
		// Both are valid for a second, since the old one may be that of another
		// interface.
		if got, want := y.String(), "added web 7946;updated web 7946;"; got != want && got != want+"updated web 7946;" {
			t.Errorf("events %q, want %q", got, want)
		}
		y.mu.Lock()
		defer y.mu.Unlock()
		if last := y.events[len(y.events)-1].Service; len(last.Addrs) != 1 || last.Addrs[0].String() != "192.0.2.77" {
			t.Errorf("the addresses are %v now", last.Addrs)
		}
	})
}

// What was heard over an interface that is gone is believed for five seconds,
// and what comes back with it is there at once.
func TestInterfaceGoesAndComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, plug := b.node(t, "192.0.2.1")
		c, _ := b.node(t, "192.0.2.2")
		var near, far diary
		near.write(t, a)
		far.write(t, c)
		announce(t, a, replica(1, "mine"))
		announce(t, c, replica(2, "theirs"))
		time.Sleep(10 * time.Second)

		plug.change("192.0.2.1", true)
		time.Sleep(2 * time.Second)
		plug.change("192.0.2.1", false)
		time.Sleep(10 * time.Second)
		if got := near.String(); strings.Contains(got, "removed") {
			t.Errorf("events %q: two seconds without interface are not the end", got)
		}

		plug.change("192.0.2.1", true)
		gone := time.Now()
		time.Sleep(time.Minute)
		near.mu.Lock()
		last := len(near.events) - 1
		if near.events[last].Type.String() != "removed" || near.at[last].Sub(gone) > lostTime+time.Second {
			t.Errorf("after the end of the interface: %v, %v later", near.events[last], near.at[last].Sub(gone))
		}
		near.mu.Unlock()
		for _, s := range b.sent(gone) {
			if s.from.Addr() == netip.MustParseAddr("192.0.2.1") {
				t.Fatalf("sent %v without an interface", s.pkt)
			}
		}

		back := time.Now()
		plug.change("192.0.2.1", false)
		time.Sleep(5 * time.Second)
		announced := slices.ContainsFunc(b.sent(back), func(s sighting) bool { return speaksOf(replica(1, "mine"), 120)(s.pkt) })
		if !announced {
			t.Error("not announced within five seconds after the interface came back")
		}
		near.mu.Lock()
		defer near.mu.Unlock()
		if e := near.events[len(near.events)-1]; e.Type.String() != "added" && e.Service.Name != "theirs" {
			t.Errorf("the last event is %v, want that the other one is back", e)
		}
	})
}

// A machine without any interface announces when one comes.
func TestStartsWithoutInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		p := b.port("192.0.2.1")
		p.gone = true
		a := b.start(t, p)
		c, _ := b.node(t, "192.0.2.2")
		var near, far diary
		near.write(t, a)
		far.write(t, c)
		announce(t, a, replica(1, "mine"))
		announce(t, c, replica(2, "theirs"))
		time.Sleep(time.Hour)
		if got, want := near.String()+far.String(), "added mine 7946;added theirs 7946;"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
		p.change("192.0.2.1", false)
		time.Sleep(5 * time.Second)
		if got, want := near.String(), "added mine 7946;updated mine 7946;added theirs 7946;"; got != want {
			t.Errorf("events of the newcomer %q, want %q", got, want)
		}
		if got, want := far.String(), "added theirs 7946;added mine 7946;"; got != want {
			t.Errorf("events of the other %q, want %q", got, want)
		}
	})
}

// RFC 6762 section 7.3: of many that would ask the same one asks.
func TestQuestionsAreSharedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		const hosts = 20
		for i := range hosts {
			d, _ := b.node(t, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String())
			var y diary
			y.write(t, d)
			announce(t, d, replica(i+1, "web"))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		start := time.Now()
		time.Sleep(time.Minute)
		asked := 0
		for _, s := range b.sent(start) {
			if slices.Contains(s.pkt.questions, question{serviceName, typePTR}) {
				asked++
			}
		}
		// Each alone would ask twice in this minute.
		if asked == 0 || asked >= hosts {
			t.Errorf("%d hosts asked %d times for services in a minute", hosts, asked)
		}
	})
}

// D4: two interfaces may be on one network, where the addresses of one must not
// end those of the other.
func TestAddressesOfAllInterfacesAreAnnouncedTogether(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	defer e.hub.Close()
	addrs := map[int]string{1: "192.0.2.1", 2: "192.0.2.2"}
	e.addrs = func(link int) []netip.Addr { return []netip.Addr{netip.MustParseAddr(addrs[link])} }
	svc := replica(1, "web")
	txt, err := discovery.EncodeTXT(svc)
	if err != nil {
		t.Fatal(err)
	}
	last := make(map[int]time.Time) // when the addresses of a link were announced
	seen := 0
	// announced lets time pass, and checks that whenever one link's addresses are
	// announced the other's are, too.
	announced := func(seconds int) {
		t.Helper()
		before := seen
		for end := now.Add(time.Duration(seconds) * time.Second); now.Before(end); now = now.Add(10 * time.Millisecond) {
			e.due(now)
			for _, o := range e.take() {
				pkt, err := parse(o.data)
				if err != nil {
					t.Fatal(err)
				}
				if slices.ContainsFunc(pkt.answers, func(r record) bool { return pkt.response && r.typ == typeA && r.flush && r.ttl > 0 }) {
					last[o.link] = now
					seen++
				}
			}
			if len(e.links) == 2 && last[1].Sub(last[2]).Abs() >= goodbyeDelay && now.Sub(last[1]) < goodbyeDelay != (now.Sub(last[2]) < goodbyeDelay) {
				t.Fatalf("the addresses of the links were announced %v apart", last[1].Sub(last[2]))
			}
		}
		if seen == before {
			t.Fatal("nothing was announced")
		}
	}
	e.follow(now, []int{1, 2})
	e.announce(now, svc, txt)
	announced(10)
	addrs[2] = "192.0.2.77"
	e.follow(now, []int{1, 2})
	announced(10)
	e.follow(now, []int{1})
	now = now.Add(10 * time.Second)
	e.follow(now, []int{1, 2})
	announced(60)
}
