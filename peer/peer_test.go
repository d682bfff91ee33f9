package peer_test

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

func TestContainersAndSpecs(t *testing.T) {
	r := newRig(t)
	want := []peer.Container{container(1), container(2)}
	r.node.Set(want...)
	r.node.SetSpec(want[0].ID, []byte("version: \"1.0\"\n"))
	c := r.client(t)
	for _, node := range []string{r.flock.NodeID(), ""} {
		c := clientOf(t, r.other, node, []netip.AddrPort{r.addr})
		p, err := c.Connect(soon(t))
		if err != nil || p != (trust.Peer{Node: r.flock.NodeID(), Flock: r.token.FlockID()}) {
			t.Errorf("connect to %q: %+v, %v", node, p, err)
		}
		if c.Addr() != r.addr {
			t.Errorf("%s answered, not %s", c.Addr(), r.addr)
		}
	}
	got, err := c.Containers(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i].Node = r.flock.NodeID()
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	text, err := c.Spec(soon(t), want[0].ID)
	if err != nil || string(text) != "version: \"1.0\"\n" {
		t.Errorf("got %q, %v", text, err)
	}
	for _, id := range []string{want[1].ID, "web-1", "", "../" + want[0].ID} {
		if _, err := c.Spec(soon(t), id); !errors.Is(err, peer.ErrNotFound) || !strings.Contains(err.Error(), r.flock.NodeID()[:12]) {
			t.Errorf("specification of %q: %v", id, err)
		}
	}
}

func TestNoContainers(t *testing.T) {
	r := newRig(t)
	if got, err := r.client(t).Containers(soon(t)); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

// A container that breaks the rules does not take the others with it.
func TestInvalidContainerIsLeftOut(t *testing.T) {
	r := newRig(t)
	bad := container(1)
	bad.Name = "Not a label"
	r.node.Set(bad, container(2))
	got, err := r.client(t).Containers(soon(t))
	if err != nil || len(got) != 1 || got[0].ID != container(2).ID {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestClosedClient(t *testing.T) {
	r := newRig(t)
	c := r.client(t)
	if _, err := c.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := c.Containers(soon(t))
	if !errors.Is(err, peer.ErrClosed) {
		t.Errorf("containers: %v", err)
	}
	if _, err := c.Blobs("web").Open(soon(t), runtime.Descriptor{Digest: peertest.Digest(nil)}, 0); !errors.Is(err, peer.ErrClosed) {
		t.Errorf("blob: %v", err)
	}
	for _, err := range c.Watch(soon(t)) {
		if !errors.Is(err, peer.ErrClosed) {
			t.Errorf("watch: %v", err)
		}
	}
}

func TestCancelledContext(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.client(t).Containers(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A server that leaves its socket to another process says so to who watches it.
func TestLeavingServerSendsAway(t *testing.T) {
	r := newRig(t)
	lists := 0
	for _, err := range r.client(t).Watch(soon(t)) {
		if err == nil {
			lists++
			r.server.Leave()
		} else if !errors.Is(err, peer.ErrSentAway) {
			t.Errorf("got %v", err)
		}
	}
	if lists != 1 {
		t.Errorf("%d lists", lists)
	}
}

// A server that is closed ends what watches it; one that comes back at the same
// address is connected to anew.
func TestServerComesBack(t *testing.T) {
	r := newRig(t)
	c := r.client(t)
	if _, err := c.Containers(soon(t)); err != nil {
		t.Fatal(err)
	}
	lists := 0
	for _, err := range c.Watch(soon(t)) {
		if err == nil {
			lists++
			if err := r.server.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if errors.Is(err, peer.ErrSilent) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the end was noticed late: %v", err)
		}
	}
	if lists != 1 {
		t.Errorf("%d lists", lists)
	}
	if _, err := c.Containers(soon(t)); !errors.Is(err, peer.ErrUnreachable) {
		t.Errorf("without a server: %v", err)
	}
	serveOn(t, peer.NewServer(r.flock, r.node), listenAt(t, r.addr))
	if _, err := c.Containers(soon(t)); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

func TestServeAfterClose(t *testing.T) {
	r := newRig(t)
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	ln := listenAt(t, netip.MustParseAddrPort("127.0.0.1:0"))
	if err := r.server.Serve(ln); !errors.Is(err, peer.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
