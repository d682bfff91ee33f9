package budgie_test

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/trust"
)

// sessions counts who answered in UDP sessions, by the replica.
type sessions struct {
	mu     sync.Mutex
	by     map[string]int
	joined map[string]bool // who became a backend of a UDP port
}

func newSessions() *sessions {
	return &sessions{by: make(map[string]int), joined: make(map[string]bool)}
}

func (s *sessions) Ended(_ *balance.Source, e balance.Exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Protocol == "UDP" && e.Sent > 0 {
		s.by[e.Backend.ID]++
	}
}

func (s *sessions) Changed(source *balance.Source, c balance.BackendChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if source.Mode == balance.ModeUDP && c.Kind == balance.Joined {
		s.joined[c.Backend.ID] = true
	}
}

func (*sessions) Opened(*balance.Source) {}
func (*sessions) Closed(*balance.Source) {}

func (s *sessions) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joined[id]
}

func (s *sessions) of(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[id]
}

// A published UDP port of any node reaches the replicas of all; a client keeps its
// replica, and gets another one when that has gone.
func TestPublishedUDPPortReachesOtherNodes(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	seen := newSessions()
	a, b := newNode(t, network, token, budgie.WithObserver(seen)), newNode(t, network, token)
	first, err := a.Run(t.Context(), dns("dns"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Join(t.Context(), "dns")
	if err != nil {
		t.Fatal(err)
	}
	happens(t, "the replica on the other node serves the UDP port, too", func() bool { return seen.has(second.ID) })
	var clients []net.Conn
	for i := range 12 {
		c := dialUDP(t, udpEndpoint(t, first).String())
		clients = append(clients, c)
		for j := range 3 {
			if got, want := ask(t, c, fmt.Sprint(i, j)), fmt.Sprint(i, j); got != want {
				t.Fatalf("client %d got %q, want %q", i, got, want)
			}
		}
	}
	if err := b.Stop(t.Context(), "dns"); err != nil {
		t.Fatal(err)
	}
	for i, c := range clients {
		if got := ask(t, c, fmt.Sprint("after ", i)); got != fmt.Sprint("after ", i) {
			t.Fatalf("client %d then got %q", i, got)
		}
	}
	if n := seen.of(second.ID); n == 0 || n == len(clients) {
		t.Errorf("%d of %d clients were answered by the replica on the other node", n, len(clients))
	}
	if err := a.Stop(t.Context(), "dns"); err != nil {
		t.Fatal(err)
	}
	if n := seen.of(first.ID); n != len(clients) {
		t.Errorf("%d of %d clients were answered by the one that was left", n, len(clients))
	}
}
