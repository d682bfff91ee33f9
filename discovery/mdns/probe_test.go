package mdns

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/discovery"
)

// alike returns a service whose instance would have the same name as that of
// others with another letter.
func alike(letter string) discovery.Service {
	s := replica(1, "web")
	s.ID = s.ID[:shortID] + strings.Repeat(letter, 64-shortID)
	return s
}

// instances returns the names under which something is announced since a time.
func (b *bus) instances(since time.Time) []string {
	var names []string
	for _, s := range b.sent(since) {
		for _, r := range slices.Concat(s.pkt.answers, s.pkt.others) {
			if s.pkt.response && r.typ == typeSRV && r.ttl > 0 && !slices.Contains(names, r.name) {
				names = append(names, r.name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// RFC 6762 sections 8.1 and 9: a name that is taken is left to its owner, and so
// is its place with those who browse.
func TestNameIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		first, _ := b.node(t, "192.0.2.1")
		second, _ := b.node(t, "192.0.2.2")
		third, _ := b.node(t, "192.0.2.3")
		var y, own diary
		y.write(t, third)
		announce(t, first, alike("a"))
		time.Sleep(10 * time.Second)
		own.write(t, second)
		time.Sleep(10 * time.Second)
		announce(t, second, alike("b"))
		time.Sleep(10 * time.Second)
		names := b.instances(time.Time{})
		if want := []string{instanceName(alike("a")), otherName(alike("b"), 2)}; !slices.Equal(names, want) {
			t.Errorf("announced %q, want %q", names, want)
		}
		if first.Stats().Renames != 0 || second.Stats().Renames != 1 || second.Stats().Conflicts == 0 {
			t.Errorf("renamed %d and %d times, after %d conflicts", first.Stats().Renames, second.Stats().Renames, second.Stats().Conflicts)
		}
		// The container's name is the same, and nobody was taken for gone.
		for who, d := range map[string]*diary{"third": &y, "second": &own} {
			if got, want := d.String(), "added web 7946;added web 7946;"; got != want {
				t.Errorf("events of the %s %q, want %q", who, got, want)
			}
		}
		// A change keeps the new name.
		changed := alike("b")
		changed.PeerPort = 7
		start := time.Now()
		announce(t, second, changed)
		time.Sleep(5 * time.Second)
		if names := b.instances(start); !slices.Equal(names, []string{otherName(changed, 2)}) {
			t.Errorf("after a change announced %q", names)
		}
	})
}

// RFC 6762 section 8.2: of two that probe at once, one gets the name.
func TestSimultaneousProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		one, _ := b.node(t, "192.0.2.1")
		two, _ := b.node(t, "192.0.2.2")
		third, _ := b.node(t, "192.0.2.3")
		var y diary
		y.write(t, third)
		announce(t, one, alike("a"))
		announce(t, two, alike("b"))
		time.Sleep(10 * time.Second)
		names := b.instances(time.Time{})
		if want := []string{instanceName(alike("a")), otherName(alike("b"), 2)}; !slices.Equal(names, want) {
			t.Errorf("announced %q, want %q", names, want)
		}
		if n := one.Stats().Renames + two.Stats().Renames; n != 1 {
			t.Errorf("%d renames, want one", n)
		}
		start := time.Now()
		var late diary
		fourth, _ := b.node(t, "192.0.2.4")
		late.write(t, fourth)
		time.Sleep(time.Minute)
		if got, want := late.String(), "added web 7946;added web 7946;"; got != want {
			t.Errorf("who comes later sees %q, want %q", got, want)
		}
		if names := b.instances(start); len(names) != 2 {
			t.Errorf("later announced %q", names)
		}
	})
}

// Two networks that are joined may have one name twice: RFC 6762 section 9.
func TestConflictOfEstablishedNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		one, _ := b.node(t, "192.0.2.1")
		two, _ := b.node(t, "192.0.2.2")
		apart := true
		b.lose = func(packet) bool { return apart }
		announce(t, one, alike("a"))
		announce(t, two, alike("b"))
		time.Sleep(10 * time.Second)
		if names := b.instances(time.Time{}); len(names) != 1 {
			t.Fatalf("announced %q: there is no conflict", names)
		}
		b.mu.Lock()
		apart = false
		b.mu.Unlock()
		again := alike("b")
		again.PeerPort++
		announce(t, two, again)
		time.Sleep(10 * time.Second)
		start := time.Now()
		c, _ := b.node(t, "192.0.2.3")
		var y diary
		y.write(t, c)
		time.Sleep(10 * time.Second)
		if names := b.instances(start); len(names) != 2 {
			t.Errorf("announced %q, want two names", names)
		}
		if got := strings.Count(y.String(), "added"); got != 2 {
			t.Errorf("events %q, want both", y.String())
		}
	})
}

// Processes of one machine that announce the same replica, as when one takes
// over from another, keep its name.
func TestProcessesOfAMachineDoNotFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		old, _ := b.node(t, "192.0.2.1")
		var log bytes.Buffer
		heir, _ := b.node(t, "192.0.2.1", WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		c, _ := b.node(t, "192.0.2.3")
		var y diary
		y.write(t, c)
		announce(t, old, replica(1, "web"))
		time.Sleep(10 * time.Second)
		announce(t, heir, replica(1, "web"))
		time.Sleep(5 * time.Second)
		if synctest.Wait(); log.Len() > 0 {
			t.Errorf("a moment of two processes was reported: %s", &log)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if names := b.instances(time.Time{}); !slices.Equal(names, []string{instanceName(replica(1, "web"))}) {
			t.Errorf("announced %q", names)
		}
		if old.Stats().Renames+heir.Stats().Renames > 0 || heir.Stats().Conflicts == 0 {
			t.Errorf("%d and %d renames, %d conflicts seen", old.Stats().Renames, heir.Stats().Renames, heir.Stats().Conflicts)
		}
		if got := y.String(); strings.Contains(got, "removed") {
			t.Errorf("events %q, want no end", got)
		}
	})
}

// Two processes of a machine that go on announcing the same replica are reported, once.
func TestProcessesOfAMachineAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		var log bytes.Buffer
		one, _ := b.node(t, "192.0.2.1", WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		two, _ := b.node(t, "192.0.2.1")
		c, _ := b.node(t, "192.0.2.3")
		var y diary
		y.write(t, c)
		announce(t, one, replica(1, "web"))
		announce(t, two, replica(1, "web"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "announces the same replica"); n != 1 {
			t.Errorf("reported %d times:\n%s", n, &log)
		}
	})
}

// A hundred services that begin at once are probed for in few packets.
func TestProbesShareOutPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		for i := range 100 {
			announce(t, a, replica(i+1, "web"))
		}
		begun := time.Now()
		time.Sleep(time.Second)
		sent := b.sent(begun.Add(time.Millisecond))
		for _, s := range sent {
			if s.size > maxRoom {
				t.Errorf("packet of %d bytes, and %d fit into a frame", s.size, maxRoom)
			}
		}
		if n := len(sent); n == 0 || n > 3*25 {
			t.Errorf("%d packets for two probes and an announcement of 100 services", n)
		}
		if names := b.instances(begun); len(names) != 100 {
			t.Errorf("%d services announced", len(names))
		}
	})
}

// A probe is believed for a moment by those who browse, and ends with it.
func TestProbeWithoutAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		synctest.Wait()
		start := time.Now()
		announce(t, a, replica(1, "web"))
		time.Sleep(300 * time.Millisecond)
		b.mu.Lock()
		b.lose = func(packet) bool { return true }
		b.mu.Unlock()
		time.Sleep(time.Minute)
		if got, want := y.String(), "added web 7946;removed web 7946;"; got != want {
			t.Fatalf("events %q, want %q", got, want)
		}
		if d := y.at[0].Sub(start); d > 50*time.Millisecond {
			t.Errorf("seen %v after the beginning", d)
		}
		if d := y.at[1].Sub(start); d > 300*time.Millisecond+probeLife+tick {
			t.Errorf("believed for %v", d)
		}
	})
}

// RFC 6762 section 8.1: who meets conflict after conflict slows down.
func TestConflictsWithoutEnd(t *testing.T) {
	e, now := testEngine(), time.Unix(1e9, 0)
	defer e.hub.Close()
	svc := replica(1, "web")
	txt, err := discovery.EncodeTXT(svc)
	if err != nil {
		t.Fatal(err)
	}
	e.announce(now, svc, txt)
	enemy := netip.MustParseAddr("192.0.2.66")
	sent := 0
	for end := now.Add(time.Minute); now.Before(end); now = now.Add(10 * time.Millisecond) {
		e.due(now)
		if len(e.take()) == 0 {
			continue
		}
		sent++
		claim := record{name: e.own[svc.ID].instance, typ: typeSRV, ttl: 120, flush: true, target: "enemy.local.", port: 1}
		e.learn(now, busLink, enemy, packet{response: true, answers: []record{claim}})
	}
	// At once, maxConflicts times, then every conflictWait.
	if most := maxConflicts + 60/5 + 5; sent > most || sent < maxConflicts {
		t.Errorf("%d packets in a minute of conflicts, want at most %d", sent, most)
	}
	if label, _, _ := strings.Cut(e.own[svc.ID].instance, "."); len(label) > maxLabel {
		t.Errorf("the name has become %q", label)
	}
}

// RFC 6762 section 8.2.1, with its own example of addresses.
func TestCompareRecords(t *testing.T) {
	a := func(s string) record { return record{typ: typeA, addr: netip.MustParseAddr(s)} }
	srv := record{typ: typeSRV, target: "a.local.", port: 1}
	later := srv
	later.target = "b.local."
	txt := record{typ: typeTXT, txt: []string{"v=1"}}
	for _, c := range []struct {
		a, b []record
		want int
	}{
		{[]record{a("169.254.99.200")}, []record{a("169.254.200.50")}, -1},
		{[]record{srv, txt}, []record{txt, srv}, 0},
		{[]record{later, txt}, []record{srv, txt}, 1},
		{[]record{srv}, []record{srv, txt}, 1}, // TXT is 16, SRV is 33
		{[]record{txt}, []record{srv, txt}, -1},
		{nil, []record{txt}, -1},
	} {
		if got := compareRecords(c.a, c.b); got != c.want {
			t.Errorf("%v against %v: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
