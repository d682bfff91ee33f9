package budgie_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// awaitBackends waits until a frontend has the given number of backends.
func awaitBackends(t *testing.T, f balance.Frontend, n int) []balance.BackendStatus {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if s := f.Status(); len(s) == n {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("backends: %+v, want %d", f.Status(), n)
		}
	}
}

// replicas returns clients on nodes of their own, each with a replica of the
// same name, and a further client that runs nothing.
func replicas(t *testing.T, n int, opts ...budgie.Option) (others []*fakes, balancer *budgie.Client) {
	t.Helper()
	first := newFakes(t, runtimetest.WithHandler(echoName("0")))
	others = append(others, first)
	for i := 1; i < n; i++ {
		f := newFakes(t, runtimetest.WithHandler(echoName(fmt.Sprint(i))))
		f.node = first.network.Join(netip.MustParseAddr("127.0.0.1"))
		f.Client = f.client(t)
		others = append(others, f)
	}
	for _, f := range others {
		if _, err := f.Run(t.Context(), always(web("web"))); err != nil {
			t.Fatal(err)
		}
	}
	b := newFakes(t)
	b.node = first.network.Join(netip.MustParseAddr("127.0.0.1"))
	return others, b.client(t, opts...)
}

func echoName(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })
}

func TestBalanceOverDiscoveredReplicas(t *testing.T) {
	said := make(saying, 16)
	others, client := replicas(t, 3, budgie.WithLogger(slog.New(slog.NewTextHandler(said, nil))))
	f, err := client.Balance(t.Context(), "web", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, f, 3)
	if line := <-said; !strings.Contains(line, "more than one service") {
		t.Errorf("that these are services of their own is not said, but %s", line)
	}
	served := make(map[string]int)
	for range 30 {
		served[fetch(t, "http://"+f.Addr().String())]++
	}
	for name, n := range served {
		if n != 10 {
			t.Errorf("replica %s served %d of 30", name, n)
		}
	}
	if len(served) != 3 {
		t.Errorf("served by %v", served)
	}
	// One leaves, and comes back.
	if err := others[0].Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, f, 2)
	for range 10 {
		if got := fetch(t, "http://"+f.Addr().String()); got == "0" {
			t.Fatal("a stopped replica served")
		}
	}
	if _, err := others[0].Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, f, 3)
}

func TestBalanceByServiceID(t *testing.T) {
	others, client := replicas(t, 2)
	rec, err := others[1].Get(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	f, err := client.Balance(t.Context(), rec.ServiceID[:12], "127.0.0.1:0", budgie.WithAlgorithm(bunfile.LeastConnections), budgie.WithMode(bunfile.ModeTCP))
	if err != nil {
		t.Fatal(err)
	}
	if s := awaitBackends(t, f, 1); s[0].ID != rec.ID {
		t.Errorf("backend %+v", s[0])
	}
	if got := fetch(t, "http://"+f.Addr().String()); got != "1" {
		t.Errorf("served by %s", got)
	}
}

// An announcement is unproved: replicas elsewhere are left aside.
func TestBalanceLeavesOtherMachinesAside(t *testing.T) {
	others, client := replicas(t, 1)
	stranger := others[0].network.Join(netip.MustParseAddr("192.0.2.1"))
	defer func() { _ = stranger.Close() }()
	f, err := client.Balance(t.Context(), "web", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, f, 1)
	events, err := client.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	svc := discovery.Service{
		ID: fmt.Sprintf("%064d", 7), ServiceID: fmt.Sprintf("%064d", 7), Name: "web", Node: fmt.Sprintf("%064d", 8),
		Ports: []discovery.Port{{ContainerPort: 80, HostPort: 80, Protocol: bunfile.TCP, HTTP: true}},
	}
	if err := stranger.Announce(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	for ev := range events {
		if ev.Service.ID == svc.ID {
			break
		}
	}
	// A further local replica comes after the stranger, so that by the time it
	// is there the stranger has been looked at.
	late := newFakes(t)
	late.node = others[0].network.Join(netip.MustParseAddr("127.0.0.1"))
	if _, err := late.client(t).Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	for _, b := range awaitBackends(t, f, 2) {
		if b.ID == svc.ID {
			t.Errorf("an unproved replica on another machine is a backend: %+v", b)
		}
	}
}

func TestBalanceEndsWithItsContext(t *testing.T) {
	_, client := replicas(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	f, err := client.Balance(ctx, "web", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", f.Addr().String())
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("still accepts")
		}
	}
}

func TestBalanceRefuses(t *testing.T) {
	f := newFakes(t)
	if _, err := f.Balance(t.Context(), "", "127.0.0.1:0"); err == nil {
		t.Error("an empty name")
	}
	if _, err := f.Balance(t.Context(), "web", "127.0.0.1:0", budgie.WithAlgorithm("nosuch")); !errors.Is(err, balance.ErrInvalid) {
		t.Errorf("an unknown algorithm: %v", err)
	}
	for what, option := range map[string]budgie.BalanceOption{
		"an unknown mode": budgie.WithMode("sctp"), "TLS": budgie.WithTLS(new(tls.Config)), "HTTP/2": budgie.WithProtocol(bunfile.ProtocolH2C),
		"limits": budgie.WithLimits(balance.Limits{Connections: 1}), "a hash": budgie.WithHash(bunfile.Hash{Header: "User"}),
		"a check": func(c *balance.Config) { c.Check = new(balance.Check) },
	} {
		if _, err := f.Balance(t.Context(), "web", "127.0.0.1:0", budgie.WithMode(balance.ModeUDP), option); !errors.Is(err, balance.ErrInvalid) {
			t.Errorf("UDP with %s: %v", what, err)
		}
	}
	if _, err := f.Balance(t.Context(), "web", "nowhere"); err == nil {
		t.Error("an address without a port")
	}
	c := newClient(t, budgie.WithoutDiscovery())
	if _, err := c.Balance(t.Context(), "web", "127.0.0.1:0"); err == nil {
		t.Error("without discovery")
	}
}
