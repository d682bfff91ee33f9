package mdns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbedAndAnnouncedThenSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		start := time.Now()
		announce(t, a, replica(1, "web"))
		time.Sleep(time.Hour)
		sent := b.sent(start)
		var at []time.Duration
		for _, s := range sent {
			at = append(at, s.at.Sub(start))
		}
		const ms = time.Millisecond
		if !slices.Equal(at, []time.Duration{0, 250 * ms, 500 * ms, 750 * ms, 1750 * ms}) {
			t.Fatalf("sent packets after %v, want three probes and two announcements", at)
		}
		for _, s := range sent[:3] {
			asked := question{instanceName(replica(1, "web")), typeANY}
			if s.pkt.response || !slices.Contains(s.pkt.questions, asked) || len(s.pkt.proposed) != 3 {
				t.Errorf("the probe is %v", s.pkt)
			}
		}
		for _, s := range sent[3:] {
			if len(s.pkt.answers) != 4 {
				t.Fatalf("announced %v, want PTR, SRV, TXT and A", s.pkt.answers)
			}
			for _, r := range s.pkt.answers {
				if r.flush != (r.typ != typePTR) || r.ttl != 120 {
					t.Errorf("record %v: cache-flush %t, TTL %d", r.typ, r.flush, r.ttl)
				}
			}
		}
		now := time.Now()
		if err := a.Withdraw(t.Context(), replica(1, "").ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		bye := b.sent(now)
		if len(bye) != 1 || len(bye[0].pkt.answers) != 3 {
			t.Fatalf("the goodbye is %v", bye)
		}
		for _, r := range bye[0].pkt.answers {
			if r.ttl != 0 {
				t.Errorf("record %v of the goodbye has TTL %d", r.typ, r.ttl)
			}
		}
	})
}

func TestWithdrawWithinTheSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		announce(t, a, replica(1, "web"))
		time.Sleep(500 * time.Millisecond)
		if err := a.Withdraw(t.Context(), replica(1, "").ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got, want := y.String(), "added web 7946;removed web 7946;"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// D2: a host that dies without a goodbye disappears when its TTL is over.
func TestKilledHostExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, plug := b.node(t, "192.0.2.1", WithTTL(9*time.Second))
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		announce(t, a, replica(1, "web"))
		time.Sleep(time.Minute) // refreshed several times meanwhile
		if got, want := y.String(), "added web 7946;"; got != want {
			t.Fatalf("events %q, want %q", got, want)
		}
		plug.unplug()
		killed := time.Now()
		time.Sleep(time.Minute)
		if got, want := y.String(), "added web 7946;removed web 7946;"; got != want {
			t.Fatalf("events %q, want %q", got, want)
		}
		if d := y.at[1].Sub(killed); d > 10*time.Second {
			t.Errorf("removed %v after the death, want at most 10s", d)
		}
	})
}

// RFC 6762 section 5.2: queries after 1, 2, 4 … seconds, at most an hour apart.
func TestQueriesBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := a.Browse(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		var gaps []time.Duration
		last := start
		for _, s := range b.sent(start) {
			gaps = append(gaps, s.at.Sub(last))
			last = s.at
		}
		if first := gaps[0]; first < 20*time.Millisecond || first > 120*time.Millisecond {
			t.Errorf("the first query came after %v, want 20 to 120 ms", first)
		}
		for i, g := range gaps[1:] {
			if want := min(time.Second<<i, time.Hour); g != want {
				t.Errorf("gap %d is %v, want %v", i+1, g, want)
			}
		}
		if len(gaps) < 30 {
			t.Errorf("%d queries in a day", len(gaps))
		}
		cancel()
		synctest.Wait()
		end := time.Now()
		time.Sleep(24 * time.Hour)
		if n := len(b.sent(end)); n > 0 {
			t.Errorf("%d packets in a day without a browser", n)
		}
	})
}

// D5: twenty hosts that browse and announce are quiet when nothing happens.
func TestNoQueryStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		const hosts = 20
		diaries := make([]diary, hosts)
		for i := range hosts {
			d, _ := b.node(t, fmt.Sprintf("192.0.2.%d", i+1))
			diaries[i].write(t, d)
			announce(t, d, replica(i+1, "web"))
			time.Sleep(3 * time.Second)
		}
		time.Sleep(time.Minute)
		start := time.Now()
		const period = 10 * time.Minute
		time.Sleep(period)
		n, bytes := 0, 0
		for _, s := range b.sent(start) {
			n++
			bytes += s.size
		}
		t.Logf("%d hosts, idle: %.2f packets and %.0f bytes a second", hosts, float64(n)/period.Seconds(), float64(bytes)/period.Seconds())
		if n == 0 || float64(n)/period.Seconds() >= 5 {
			t.Errorf("%d packets in %v: want some, and fewer than 5 a second", n, period)
		}
		for i := range diaries {
			diaries[i].mu.Lock()
			if len(diaries[i].events) != hosts {
				t.Errorf("host %d had %d events, want one for each of %d hosts and no more", i, len(diaries[i].events), hosts)
			}
			diaries[i].mu.Unlock()
		}
	})
}

// A hundred replicas of one host need few packets, and lost ones come later.
func TestManyReplicasAndLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		for i := range 100 {
			announce(t, a, replica(i+1, "web"))
		}
		time.Sleep(10 * time.Second)
		start := time.Now()
		lost := 0
		b.lose = func(p packet) bool {
			if p.response && lost < 10 {
				lost++
				return true
			}
			return false
		}
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		time.Sleep(900 * time.Millisecond)
		if n := len(b.sent(start)); n > 60 {
			t.Errorf("%d packets for 100 replicas", n)
		}
		for _, s := range b.sent(start) {
			if s.size > maxRoom {
				t.Errorf("packet of %d bytes, and %d fit into a frame", s.size, maxRoom)
			}
		}
		if lost == 0 {
			t.Error("nothing was lost: this test shows nothing")
		}
		time.Sleep(10 * time.Second)
		y.mu.Lock()
		defer y.mu.Unlock()
		if len(y.events) != 100 {
			t.Errorf("%d of 100 replicas seen", len(y.events))
		}
	})
}

// What others leave out of an answer is asked for.
func TestMissingPartsAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		c, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, c)
		a, _ := b.node(t, "192.0.2.1")
		b.lose = func(p packet) bool { // probes, and everything with a PTR record that says more
			return len(p.proposed) > 0 || p.response && p.answers[0].typ == typePTR && len(p.answers)+len(p.others) > 1
		}
		announce(t, a, replica(1, "web"))
		time.Sleep(3 * time.Second)
		ptr := record{name: serviceName, typ: typePTR, ttl: 120, target: instanceName(replica(1, "web"))}
		data, err := packet{response: true, answers: []record{ptr}}.pack()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := b.send(netip.MustParseAddrPort("192.0.2.1:5353"), outgoing{data: data}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second) // its records were on the wire within the last second
		if got, want := y.String(), "added web 7946;"; got != want {
			t.Errorf("events %q, want %q; sent %v", got, want, b.sent(start))
		}
	})
}

// RFC 6762 section 6: a record is sent once a second at most, however often it
// is asked for; section 7.1: not to those who know it.
func TestAnswersAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		svc := replica(1, "web")
		announce(t, a, svc)
		time.Sleep(5 * time.Second)
		ptr := record{name: serviceName, typ: typePTR, ttl: 60, target: instanceName(svc)}
		asker := netip.MustParseAddrPort("192.0.2.9:5353")
		ask := func(p packet) {
			data, err := p.pack()
			if err != nil {
				t.Fatal(err)
			}
			if err := b.send(asker, outgoing{data: data}); err != nil {
				t.Fatal(err)
			}
		}
		answers := func(since time.Time) (list []sighting) {
			for _, s := range b.sent(since) {
				if s.pkt.response {
					list = append(list, s)
				}
			}
			return list
		}
		query := packet{questions: []question{{serviceName, typePTR}}}
		start := time.Now()
		for range 40 {
			ask(query)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		got := answers(start)
		if len(got) < 4 || len(got) > 5 {
			t.Errorf("%d answers in four seconds, want one a second", len(got))
		}
		for i := range got[1:] {
			if gap := got[i+1].at.Sub(got[i].at); gap < time.Second {
				t.Errorf("the same record was sent twice within %v", gap)
			}
		}

		// Half of the TTL is known well enough, less is not.
		start = time.Now()
		query.answers = []record{ptr}
		ask(query)
		time.Sleep(3 * time.Second)
		if n := len(answers(start)); n != 0 {
			t.Errorf("%d answers for who knows them", n)
		}
		query.answers[0].ttl = 59
		ask(query)
		time.Sleep(3 * time.Second)
		if n := len(answers(start)); n != 1 {
			t.Errorf("%d answers for who is about to forget, want 1", n)
		}

		// Section 7.2: a truncated query is continued.
		start = time.Now()
		ask(packet{truncated: true, questions: query.questions})
		time.Sleep(100 * time.Millisecond)
		ask(packet{answers: []record{ptr}})
		time.Sleep(3 * time.Second)
		if n := len(answers(start)); n != 0 {
			t.Errorf("%d answers for who says in a second packet that they are known", n)
		}
		ask(packet{truncated: true, questions: query.questions})
		time.Sleep(3 * time.Second)
		if n := len(answers(start)); n != 1 {
			t.Errorf("%d answers for a truncated query without more, want 1", n)
		}
	})
}
