package balance

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"pgregory.net/rapid"
)

// homes says which member each of n keys has in an idle pool.
func homes(p *pool, n int) []string {
	h := make([]string, n)
	for i := range h {
		m := p.pick(nil, hashText(fmt.Sprintf("user %d", i)))
		p.release(m, result{answered: true})
		h[i] = m.backend.ID
	}
	return h
}

// When a backend joins, only keys that it gets move; when one leaves, only those
// that it had; in any order of the backends and at any addresses. Both are about
// one of n, and so is everybody's share.
func TestConsistentHashMovesLittle(t *testing.T) {
	const keys = 1000
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "members")
		all := rapid.Permutation(backendsNamed(n)).Draw(t, "order")
		p := testPool(consistentHash{}, 0)
		p.update(all[:n-1])
		before := homes(p, keys)
		p.update(rapid.Permutation(all).Draw(t, "another order"))
		after := homes(p, keys)
		moved, shares := 0, map[string]int{}
		for i := range keys {
			shares[after[i]]++
			if before[i] == after[i] {
				continue
			}
			if moved++; after[i] != all[n-1].ID {
				t.Fatalf("key %d moved from %s to %s when %s joined", i, before[i], after[i], all[n-1].ID)
			}
		}
		// Five standard deviations of a binomial of 1000 are less than 80.
		for _, b := range all {
			if s := shares[b.ID]; s < keys/n-80 || s > keys/n+80 || s == 0 {
				t.Errorf("%s has %d of %d keys with %d members", b.ID, s, keys, n)
			}
		}
		if moved > keys/n+80 {
			t.Errorf("%d of %d keys moved to one of %d", moved, keys, n)
		}
		for i := range all[:n-1] {
			all[i].Addr += "0"
		}
		p.update(all[:n-1])
		if again := homes(p, keys); !slices.Equal(again, before) {
			t.Error("keys did not come back when the newcomer left, with new addresses")
		}
	})
}

// Whatever is under way, and whatever keys come, no pick takes a member beyond
// the bound, and below it a key has its home.
func TestConsistentHashBoundsLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "members")
		p := testPool(consistentHash{}, n)
		home := homes(p, 4)
		var under []*member
		t.Repeat(map[string]func(*rapid.T){
			"crowd": func(t *rapid.T) {
				key := rapid.IntRange(0, 3).Draw(t, "key")
				for range rapid.IntRange(1, 60).Draw(t, "requests") {
					m := p.pick(nil, hashText(fmt.Sprintf("user %d", key)))
					under = append(under, m)
					// In whole numbers: active <= ceil(1.25 * all / n), or 16.
					if m.active > freeLoad && 4*n*(m.active-1) >= 5*len(under) {
						t.Fatalf("%s has %d of %d requests among %d", m.backend.ID, m.active, len(under), n)
					}
					if m.backend.ID != home[key] && m.active <= freeLoad {
						h := p.members[slices.IndexFunc(p.members, func(m *member) bool { return m.backend.ID == home[key] })]
						if h.active < freeLoad {
							t.Fatalf("%s got what belongs to %s, which had only %d", m.backend.ID, home[key], h.active)
						}
					}
				}
			},
			"end": func(t *rapid.T) {
				for range min(len(under), rapid.IntRange(1, 60).Draw(t, "requests")) {
					i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
					p.release(under[i], result{answered: true})
					under = slices.Delete(under, i, i+1)
				}
			},
		})
	})
}

// The bound holds, and one key starves nobody, when many pick at once.
func TestConsistentHashUnderConcurrency(t *testing.T) {
	const members, goroutines, each = 4, 10, 100
	p := testPool(consistentHash{}, members)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				p.pick(nil, 42)
			}
		})
	}
	wg.Wait()
	for _, s := range p.status() {
		if bound := loadBound(goroutines*each, members); s.Active > bound || s.Active == 0 {
			t.Errorf("%s has %d; want some, and at most %d", s.ID, s.Active, bound)
		}
	}
}

func TestHashKeys(t *testing.T) {
	ask := func(change func(*http.Request)) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "http://web.example/", nil)
		r.RemoteAddr = "192.0.2.1:1234"
		change(r)
		return r
	}
	none := func(*http.Request) {}
	header := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-User", v) }
	}
	cookie := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "user", Value: v}) }
	}
	from := func(a string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = a } }
	tests := map[string]struct {
		hash  bunfile.Hash
		a, b  func(*http.Request)
		equal bool
	}{
		"ports of an address":      {bunfile.Hash{}, none, from("192.0.2.1:99"), true},
		"two addresses":            {bunfile.Hash{}, none, from("192.0.2.2:1234"), false},
		"an address in IPv6":       {bunfile.Hash{}, none, from("[::ffff:192.0.2.1]:7"), true},
		"a header nobody asks for": {bunfile.Hash{}, none, header("ann"), true},
		"header":                   {bunfile.Hash{Header: "x-user"}, header("ann"), header("bob"), false},
		"no header":                {bunfile.Hash{Header: "x-user"}, none, from("192.0.2.2:1"), false},
		"host":                     {bunfile.Hash{Header: "host"}, none, func(r *http.Request) { r.Host = "other" }, false},
		"host at two addresses":    {bunfile.Hash{Header: "host"}, none, from("192.0.2.2:1"), true},
		"cookie":                   {bunfile.Hash{Cookie: "user"}, cookie("ann"), cookie("bob"), false},
		"no cookie":                {bunfile.Hash{Cookie: "user"}, none, header("ann"), true},
		"same cookie elsewhere": {bunfile.Hash{Cookie: "user"}, cookie("ann"), func(r *http.Request) {
			cookie("ann")(r)
			from("192.0.2.2:1")(r)
		}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			k := newKeySource(Config{Algorithm: bunfile.ConsistentHash, Hash: tc.hash})
			if a, b := k.ofRequest(ask(tc.a)), k.ofRequest(ask(tc.b)); (a == b) != tc.equal {
				t.Errorf("the keys are %x and %x; want equal %v", a, b, tc.equal)
			}
		})
	}
	k := newKeySource(Config{Algorithm: bunfile.ConsistentHash})
	c := addressed{addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}}
	if k.ofConn(c) != k.ofRequest(ask(none)) {
		t.Error("a client is another in TCP mode")
	}
	if unused := newKeySource(Config{}); unused.ofConn(c) != 0 || unused.ofRequest(ask(none)) != 0 {
		t.Error("a key is made where none is needed")
	}
}

type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }
