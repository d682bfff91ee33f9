package mdns

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"golang.org/x/net/dns/dnsmessage"
	"pgregory.net/rapid"
)

func anyRecord() *rapid.Generator[record] {
	name := rapid.StringMatching(`([a-z0-9_ -]{1,20}\.){1,4}`)
	return rapid.Custom(func(t *rapid.T) record {
		r := record{
			name: name.Draw(t, "name"), ttl: rapid.Uint32().Draw(t, "ttl"), flush: rapid.Bool().Draw(t, "flush"),
			typ: rapid.SampledFrom([]dnsmessage.Type{typePTR, typeSRV, typeTXT, typeA, typeAAAA}).Draw(t, "type"),
		}
		switch r.typ {
		case typePTR:
			r.target = name.Draw(t, "target")
		case typeSRV:
			r.target, r.port = name.Draw(t, "target"), rapid.Uint16().Draw(t, "port")
		case typeTXT:
			r.txt = rapid.SliceOfN(rapid.StringN(0, 60, 255), 1, 4).Draw(t, "txt")
		case typeA:
			r.addr = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr")))
		case typeAAAA:
			r.addr = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr")))
		}
		return r
	})
}

func keys(records []record) []string {
	var list []string
	for _, r := range records {
		list = append(list, r.key())
	}
	slices.Sort(list)
	return list
}

// What is packed is parsed again, in packets of the size asked for.
func TestPackAndParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var groups []group
		var all []record
		for range rapid.IntRange(1, 12).Draw(t, "groups") {
			g := group{
				answers: rapid.SliceOfN(anyRecord(), 1, 4).Draw(t, "answers"),
				others:  rapid.SliceOfN(anyRecord(), 0, 4).Draw(t, "others"),
			}
			groups = append(groups, g)
			all = append(append(all, g.answers...), g.others...)
		}
		size := rapid.IntRange(minRoom, maxRoom).Draw(t, "size")
		packets, err := packResponses(groups, size)
		if err != nil {
			t.Fatal(err)
		}
		var back []record
		for _, data := range packets {
			p, err := parse(data)
			if err != nil || !p.response || p.unreadable > 0 {
				t.Fatalf("%+v, %v", p, err)
			}
			if len(data) > size && len(p.answers)+len(p.others) > 1 {
				t.Fatalf("packet of %d bytes, and %d are allowed", len(data), size)
			}
			back = append(append(back, p.answers...), p.others...)
		}
		if !slices.Equal(keys(back), keys(all)) {
			t.Fatalf("got  %q\nwant %q", keys(back), keys(all))
		}
	})
}

// RFC 6762 section 7.2.
func TestKnownAnswersAreSplit(t *testing.T) {
	q := question{serviceName, typePTR}
	var known []record
	for i := range 100 {
		known = append(known, record{name: serviceName, typ: typePTR, ttl: 99, target: instanceName(replica(i, "web"))})
	}
	packets, err := packQuery([]question{q}, known, maxRoom)
	if err != nil {
		t.Fatal(err)
	}
	if len(packets) < 2 {
		t.Fatalf("%d packets: nothing was split", len(packets))
	}
	var back []record
	for i, data := range packets {
		p, err := parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > maxRoom {
			t.Errorf("packet of %d bytes", len(data))
		}
		if p.truncated != (i < len(packets)-1) {
			t.Errorf("packet %d of %d: truncated is %t", i, len(packets), p.truncated)
		}
		if (len(p.questions) > 0) != (i == 0) {
			t.Errorf("packet %d has %d questions", i, len(p.questions))
		}
		back = append(back, p.answers...)
	}
	if !slices.Equal(keys(back), keys(known)) {
		t.Error("known answers were lost")
	}
}

// testEngine returns an engine without a network.
func testEngine() *engine {
	e := newEngine(config{log: slog.New(slog.DiscardHandler), ttl: DefaultTTL})
	e.addrs = func(int) []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} }
	e.local = func() []netip.Addr { return e.addrs(busLink) }
	e.zone = func(int) string { return "bus0" }
	e.room = func(int) int { return maxRoom }
	e.copies = func(int) int { return 1 }
	e.follow(time.Unix(1e9, 0), []int{busLink})
	return e
}

// FuzzPacket gives a packet to an engine that announces and browses: whatever
// comes, it must not panic, nor answer with more than it should, nor believe
// what cannot be announced.
func FuzzPacket(f *testing.F) {
	now := time.Unix(1e9, 0)
	own, other := replica(1, "own"), replica(2, "other")
	ownText, err := discovery.EncodeTXT(own)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []discovery.Service{own, other} {
		e := testEngine()
		txt, err := discovery.EncodeTXT(s)
		if err != nil {
			f.Fatal(err)
		}
		e.announce(now, s, txt)
		for at := now; at.Before(now.Add(3 * time.Second)); at = at.Add(probeGap) {
			e.due(at)
		}
		e.withdraw(now.Add(3*time.Second), s.ID)
		for _, o := range e.take() {
			f.Add(o.data, true)
		}
		e.hub.Close()
	}
	for _, q := range []question{{serviceName, typePTR}, {typesName, typePTR}, {instanceName(own), typeANY}} {
		data, err := packet{questions: []question{q}}.pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Add([]byte(strings.Repeat("\xc0\x0c", 20)), true)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		e := testEngine()
		defer e.hub.Close()
		if _, err := e.hub.Subscribe(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.browse(now)
		e.announce(now, own, ownText)
		at := now
		for range 5 { // probes and announcements
			at = at.Add(time.Second)
			e.due(at)
		}
		e.take()
		from := netip.MustParseAddrPort("192.0.2.9:5353")
		if !whole {
			from = netip.MustParseAddrPort("192.0.2.9:5000")
		}
		e.receive(at, busLink, from, true, data)
		out := 0
		for range 50 {
			e.due(at)
			for _, o := range e.take() {
				if out++; len(o.data) > maxRoom {
					t.Fatalf("a packet of %d bytes", len(o.data))
				}
				if _, err := parse(o.data); err != nil {
					t.Fatalf("sent what cannot be read: %v", err)
				}
			}
			at = at.Add(time.Second)
		}
		if out > 200 {
			t.Fatalf("one packet made for %d", out)
		}
		for short := range e.cache.short {
			for id, svc := range e.cache.services(short, at) {
				svc.Addrs = nil
				if _, err := discovery.EncodeTXT(svc); err != nil || id != svc.ID {
					t.Fatalf("believed %+v: %v", svc, err)
				}
			}
		}
		at = at.Add(2 * maxTTL)
		e.due(at)
		if len(e.cache.instances)+len(e.cache.hosts)+len(e.cache.short)+len(e.cache.sources) > 0 {
			t.Fatalf("the cache keeps what has expired: %+v", e.cache)
		}
	})
}
