package trust

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A clock is what a node takes for the time of day.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

// noon is when the tests of clocks play.
var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// Clocks that are a day apart do no harm, and both sides say how far they are.
func TestClocksThatDiffer(t *testing.T) {
	tok := NewToken()
	for _, skew := range []time.Duration{
		0, time.Second, 20 * time.Second, 20 * time.Hour, MaxSkew, -time.Hour, -20 * time.Hour, -MaxSkew,
	} {
		t.Run(skew.String(), func(t *testing.T) {
			var seen [roles]Peer
			note := func(r role) Option { return WithPeerFunc(func(p Peer) { seen[r] = p }) }
			here, there := &clock{now: noon}, &clock{now: noon.Add(skew)}
			a := member(t, tok, WithClock(here.time), note(client))
			b := member(t, tok, WithClock(there.time), note(server))
			handshake(t, a.ClientConfig(""), b.ServerConfig()).accepted(t)
			about := func(got, want time.Duration) bool { // at least so far, but for the age of the certificate
				return got.Abs() <= want.Abs() && got.Abs() >= want.Abs()-Reissue && (got == 0 || (got < 0) == (want < 0))
			}
			if seen[client].Node != b.NodeID() || !about(seen[client].Skew, skew) {
				t.Errorf("the client sees %+v, want a skew of %s", seen[client], skew)
			}
			if seen[server].Node != a.NodeID() || !about(seen[server].Skew, -skew) {
				t.Errorf("the server sees %+v, want a skew of %s", seen[server], -skew)
			}
		})
	}
}

// Beyond a day the error says which clock is where.
func TestClocksThatDifferTooMuch(t *testing.T) {
	tok := NewToken()
	here, there := &clock{now: noon}, &clock{}
	a, b := member(t, tok, WithClock(here.time)), member(t, tok, WithClock(there.time))
	for _, c := range []struct {
		skew time.Duration
		kind error
		want string
	}{
		{MaxSkew + time.Second, ErrClock, "is 24 h ahead of this machine's"},
		{49 * time.Hour, ErrClock, "is 49 h ahead of this machine's"},
		{-(MaxSkew + Lifetime + time.Second), ErrExpired, "expired 24 h ago"},
		{-20 * 365 * 24 * time.Hour, ErrExpired, "set the clock that is wrong"}, // a machine without a battery
	} {
		there.set(noon.Add(c.skew))
		r := handshake(t, a.ClientConfig(""), b.ServerConfig())
		r.refused(t, r.client, c.kind)
		if !strings.Contains(r.client.Error(), c.want) || !strings.Contains(r.client.Error(), b.NodeID()[:12]) {
			t.Errorf("%s: %v", c.skew, r.client)
		}
	}
	there.set(noon)
	handshake(t, a.ClientConfig(""), b.ServerConfig()).accepted(t)
}

// Long-running nodes always have a certificate that is fresh, whatever happens
// to their clock.
func TestCertificatesRenewThemselves(t *testing.T) {
	now := &clock{now: noon}
	f := member(t, NewToken(), WithClock(now.time))
	serial := func(r role) string {
		t.Helper()
		c, err := f.certificate(r)
		if err != nil {
			t.Fatal(err)
		}
		if !c.Leaf.NotBefore.Equal(now.time()) && now.time().Sub(c.Leaf.NotBefore) >= Reissue || c.Leaf.NotBefore.After(now.time()) ||
			c.Leaf.NotAfter.Sub(c.Leaf.NotBefore) != Lifetime {
			t.Errorf("at %s it is valid from %s to %s", now.time(), c.Leaf.NotBefore, c.Leaf.NotAfter)
		}
		return c.Leaf.SerialNumber.String()
	}
	for _, r := range []role{client, server} {
		now.set(noon)
		first := serial(r)
		now.set(noon.Add(Reissue - time.Second))
		if serial(r) != first {
			t.Error("a fresh certificate was made anew")
		}
		last := first
		for _, at := range []time.Duration{Reissue, Lifetime, 1000 * time.Hour, -time.Second, -5000 * time.Hour} {
			now.set(noon.Add(at))
			next := serial(r)
			if next == last {
				t.Errorf("after %s it is the same certificate", at)
			}
			last = next
		}
	}
}

// With certificates of any age that occurs, two nodes trust each other exactly
// as long as their clocks are at most a day apart, and agree on how far.
func TestSkewIsBounded(t *testing.T) {
	a, err := newAuthority(NewToken())
	if err != nil {
		t.Fatal(err)
	}
	self, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		skew := time.Duration(rapid.Int64Range(-100*3600, 100*3600).Draw(t, "skew in seconds")) * time.Second
		age := time.Duration(rapid.Int64Range(0, int64(Reissue/time.Second)-1).Draw(t, "age in seconds")) * time.Second
		cert, err := a.issue(self, server, noon.Add(skew-age))
		if err != nil {
			t.Fatal(err)
		}
		p, err := a.verify(cert.Leaf, server, noon)
		switch {
		case skew.Abs() <= MaxSkew && err != nil:
			t.Fatalf("clocks %s apart: %v", skew, err)
		case skew > MaxSkew+Reissue && !errors.Is(err, ErrClock), skew < -MaxSkew-Lifetime && !errors.Is(err, ErrExpired):
			t.Fatalf("clocks %s apart: %v", skew, err)
		case err == nil && (p.Skew.Abs() > skew.Abs() || p.Skew.Abs() < skew.Abs()-Reissue || p.Skew != 0 && (p.Skew < 0) != (skew < 0)):
			t.Fatalf("clocks %s apart are reported as %s", skew, p.Skew)
		}
	})
}

func TestTimesInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		90 * time.Second: "90 s", 5 * time.Minute: "5 min", 119 * time.Minute: "119 min", 25 * time.Hour: "25 h",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
