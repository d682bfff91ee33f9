package balance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// namedServers are n HTTP servers that say their names.
func namedServers(t *testing.T, n int) []string {
	addrs := make([]string, n)
	for i := range addrs {
		addrs[i] = httpBackend(t, says(fmt.Sprintf("b%d", i)))
	}
	return addrs
}

// What belongs together goes to one backend, on every node alike, and stays there
// when another one leaves.
func TestStickySessions(t *testing.T) {
	for name, tc := range map[string]struct {
		hash bunfile.Hash
		set  func(r *http.Request, user string)
	}{
		"header": {bunfile.Hash{Header: "x-user"}, func(r *http.Request, user string) { r.Header.Set("X-User", user) }},
		"cookie": {bunfile.Hash{Cookie: "user"}, func(r *http.Request, user string) {
			r.AddCookie(&http.Cookie{Name: "user", Value: user})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := balance.Config{Mode: bunfile.ModeHTTP, Algorithm: bunfile.ConsistentHash, Hash: tc.hash}
			one, other := open(t, cfg), open(t, cfg)
			addrs := namedServers(t, 3)
			one.set(addrs...)
			other.set(addrs...)
			homes, seen := map[string]string{}, map[string]bool{}
			ask := func(f *front, user string) string {
				req := request(t, http.MethodGet, f.url("/"), nil)
				tc.set(req, user)
				return do(t, req).body
			}
			for i := range 20 {
				user := fmt.Sprintf("user %d", i)
				homes[user] = ask(one, user)
				seen[homes[user]] = true
				if got := ask(other, user); got != homes[user] {
					t.Errorf("%s is at %s, on another node at %s", user, homes[user], got)
				}
			}
			if len(seen) != 3 {
				t.Errorf("20 users share %v; want all three to take part", seen)
			}
			one.set(addrs[:2]...)
			for user, home := range homes {
				if got := ask(one, user); got != home && home != "b2" {
					t.Errorf("%s moved from %s to %s, though b2 left", user, home, got)
				}
			}
		})
	}
}

// A client's address is enough in every mode, whatever its ports.
func TestStickyAddresses(t *testing.T) {
	for _, mode := range []bunfile.BalanceMode{bunfile.ModeHTTP, bunfile.ModeTCP} {
		f := open(t, balance.Config{Mode: mode, Algorithm: bunfile.ConsistentHash})
		f.set(namedServers(t, 4)...)
		home := get(t, f.url("/")).body
		for range 6 {
			if got := get(t, f.url("/")).body; got != home {
				t.Errorf("mode %s: one client got %s, then %s", mode, home, got)
			}
		}
	}
	f := open(t, balance.Config{Mode: balance.ModeUDP, Algorithm: bunfile.ConsistentHash})
	var addrs []string
	for _, name := range []string{"a", "b", "c"} {
		addrs = append(addrs, newUDPBackend(t, "127.0.0.1:0", func([]byte) []byte { return []byte(name) }).addr())
	}
	f.set(addrs...)
	home := exchange(t, dialUDP(t, f.Addr().String()), "x")
	for range 4 {
		if got := exchange(t, dialUDP(t, f.Addr().String()), "x"); got != home {
			t.Errorf("mode udp: one client got %s, then %s", home, got)
		}
	}
}

// Each mode tells how long a backend takes, and forgets nothing that it awaits.
func TestLatencyIsMeasured(t *testing.T) {
	backend := httpBackend(t, says("x"))
	for _, mode := range []bunfile.BalanceMode{bunfile.ModeHTTP, bunfile.ModeTCP} {
		f := open(t, balance.Config{Mode: mode, Algorithm: bunfile.PowerOfTwo})
		f.set(backend)
		get(t, f.url("/"))
		if l := balance.Latencies(t, f.Frontend); l[0] <= 0 || l[0] > patience.Seconds() {
			t.Errorf("mode %s: the latency is %v s", mode, l[0])
		}
	}
	f := open(t, balance.Config{Mode: balance.ModeUDP, Algorithm: bunfile.PowerOfTwo})
	f.set(newUDPBackend(t, "127.0.0.1:0", same).addr())
	exchange(t, dialUDP(t, f.Addr().String()), "x")
	if l := balance.Latencies(t, f.Frontend); l[0] <= 0 || l[0] > patience.Seconds() {
		t.Errorf("mode udp: the latency is %v s", l[0])
	}
}

// The time that a client takes to send its request is not the backend's, and an
// answer in the middle of one says nothing.
func TestLatencyLeavesTheClientOut(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Algorithm: bunfile.PowerOfTwo})
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		io.Copy(io.Discard, c)
	}))
	c := dial(t, f)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nab")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp.Body.Close()
	c.Close()
	eventually(t, "the request has ended", func() bool { return f.Status()[0].Active == 0 })
	if l := balance.Latencies(t, f.Frontend); l[0] != -1 {
		t.Errorf("an early answer counts for %v s", l[0])
	}
}

// A client that waits in vain and leaves has learnt something of the backend.
func TestLatencyOfWhoHangs(t *testing.T) {
	began, hang := make(chan struct{}), make(chan struct{})
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Algorithm: bunfile.PowerOfTwo})
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			close(began)
			<-hang
		}
	}))
	defer close(hang)
	get(t, f.url("/"))
	c := dial(t, f)
	start := time.Now()
	io.WriteString(c, "GET /hang HTTP/1.1\r\nHost: web\r\n\r\n")
	receive(t, began)
	<-time.After(100 * time.Millisecond)
	c.Close()
	eventually(t, "the request has ended", func() bool { return f.Status()[0].Active == 0 })
	if l := balance.Latencies(t, f.Frontend)[0]; l < 0.1 || l > time.Since(start).Seconds() {
		t.Errorf("the latency is %v s after a wait of 100 ms in vain", l)
	}
}
