//go:build linux

package peertest_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/internal/lan"
	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/trust"
)

func TestMain(m *testing.M) {
	lan.Isolate(lan.Roles{"serve": serve, "watch": watch})
	goleak.VerifyTestMain(m)
}

// flockOf is the membership in a token's flock.
func flockOf(token string) (*trust.Flock, error) {
	t, err := trust.ParseToken(token)
	if err != nil {
		return nil, err
	}
	return trust.New(trust.WithToken(t, "a test"))
}

// serve is a role: a node with one container, until it is ended.
func serve(ctx context.Context, args []string) error {
	f, err := flockOf(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	ln, err := peer.Listen(ctx, "")
	if err != nil {
		return err
	}
	n := &peertest.Node{}
	id := strings.Repeat("0a", 32)
	n.Set(peer.Container{ID: id, ServiceID: id, Name: "web", State: lifecycle.Running, Runtime: "process"})
	s := peer.NewServer(f, n)
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	fmt.Println("serving as", f.NodeID(), "on", ln.Addr())
	return s.Serve(ln)
}

// watch is a role: it watches the node at addresses, and says what it sees.
func watch(ctx context.Context, args []string) error {
	f, err := flockOf(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	var addrs []netip.AddrPort
	for _, a := range args[2:] {
		addrs = append(addrs, netip.MustParseAddrPort(a))
	}
	c := peer.NewClient(f, args[1], addrs)
	defer c.Close()
	for containers, err := range c.Watch(ctx) {
		if err == nil {
			fmt.Println("sees", len(containers), "at", c.Addr())
			continue
		}
		fmt.Println("ends:", err)
	}
	begin := time.Now()
	_, err = c.Connect(ctx)
	fmt.Println("unreachable:", errors.Is(err, peer.ErrUnreachable), "after", time.Since(begin).Round(time.Millisecond))
	return nil
}

// D6 and D2: a node that has a link-local address alone is talked to, beside
// an address that leads nowhere; where its power goes, that is noticed within
// 10 s.
func TestLinkLocalAndPowerOff_D6_D2(t *testing.T) {
	testenv.NeedRoot(t)
	lab := lan.New(t)
	sw := lab.SwitchOf()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	token := trust.NewToken().Reveal()
	server := a.Role("serve", token)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	server.Await("\n")
	node := strings.Fields(server.Printed())[2]
	at := netip.AddrPortFrom(a.NIC(0).LinkLocal().WithZone(b.NIC(0).Name), peer.DefaultPort)
	nowhere := "[fe80::dead%" + b.NIC(0).Name + "]:18733"
	client := b.Role("watch", token, node, nowhere, at.String())
	begin := time.Now()
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	client.Await("sees 1 at " + at.String())
	t.Logf("seen after %s", time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	a.PowerOff()
	client.Await("unreachable: true after ") // under a second, where the machine is not busy
	took := time.Since(begin)
	t.Logf("gone after %s\n%s", took.Round(time.Millisecond), client.Printed())
	if took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := client.Wait(); err != nil {
		t.Error(err)
	}
}

// The fakes do as their documentation says.
func TestFakes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := &peertest.Node{}
	changes, err := n.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	<-changes // at once
	n.Set(peer.Container{Name: "a"})
	n.Set(peer.Container{Name: "b"})
	<-changes // at least one after the last
	if got, err := n.Containers(ctx); err != nil || len(got) != 1 || got[0].Name != "b" {
		t.Errorf("got %+v, %v", got, err)
	}
	if n.Watchers() != 1 {
		t.Errorf("%d watch", n.Watchers())
	}
}
