package peer_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/trust"
)

// Signs of life keep a watch going for as long as nothing changes, and a change
// is seen at once.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		r.node.Set(container(1))
		c := r.client(t)
		begin := time.Now()
		lists := 0
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for got, err := range c.Watch(ctx) {
			if err != nil {
				if lists != 3 || !errors.Is(err, context.Canceled) {
					t.Errorf("after %d lists: %v", lists, err)
				}
				return
			}
			lists++
			switch lists {
			case 1:
				if len(got) != 1 || time.Since(begin) > 0 {
					t.Errorf("after %s: %+v", time.Since(begin), got)
				}
				time.AfterFunc(time.Minute, func() { r.node.Set(container(1), container(2)) })
			case 2:
				if len(got) != 2 || time.Since(begin) != time.Minute {
					t.Errorf("after %s: %+v", time.Since(begin), got)
				}
				r.node.Set()
			case 3:
				if len(got) != 0 {
					t.Errorf("got %+v", got)
				}
				cancel()
			}
		}
		t.Error("it ended without an error")
	})
}

// That a node is a host, and of what, is seen at once, and that it is no more.
func TestWatchHosting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		r.node.Set(container(1))
		begin, said := time.Now(), 0
		for told, err := range r.client(t).WatchNode(t.Context()) {
			said++
			if err != nil || len(told.Containers) != 1 || time.Since(begin) != time.Duration(said-1)*time.Second {
				t.Fatalf("after %s: %+v, %v", time.Since(begin), told, err)
			}
			switch said {
			case 1:
				time.AfterFunc(time.Second, func() { r.node.SetHosting(&peer.Hosting{Commands: true}) })
			case 2:
				if told.Hosting == nil || !told.Hosting.Commands {
					t.Errorf("it says %+v", told.Hosting)
				}
				time.AfterFunc(time.Second, func() { r.node.SetHosting(nil) })
			}
			if told.Hosting == nil && said > 1 {
				return
			}
		}
	})
}

// A loop that is left ends what the node does for it.
func TestWatchIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		for _, err := range r.client(t).Watch(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if r.node.Watchers() != 1 {
				t.Errorf("%d watch", r.node.Watchers())
			}
			break
		}
		synctest.Wait()
		if r.node.Watchers() != 0 {
			t.Errorf("%d watch on", r.node.Watchers())
		}
		if _, _, requests := r.server.Counts(); requests != 0 {
			t.Errorf("%d requests are under way", requests)
		}
	})
}

// freezing returns a dial function whose connections hear nothing any more once
// off is closed, nor can new ones be made.
func (r *memRig) freezing(off <-chan struct{}) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
		select {
		case <-off:
			<-ctx.Done()
			return nil, ctx.Err()
		default:
		}
		c, err := r.net.dialFrom(ctx, somewhere)
		if err != nil {
			return nil, err
		}
		c.freeze, c.ended = off, make(chan struct{})
		return c, nil
	}
}

// D2: a host that loses its power is gone within 10 s, and a new connection to
// it costs under a second.
func TestPowerOff_D2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		off := make(chan struct{})
		c := clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{r.addr}, peer.WithDial(r.freezing(off)))
		var at time.Time
		for _, err := range c.Watch(t.Context()) {
			if err == nil {
				at = time.Now().Add(11 * time.Second)
				time.AfterFunc(time.Until(at), func() { close(off) })
				continue
			}
			took := time.Since(at)
			if !errors.Is(err, peer.ErrSilent) || took > peer.Silence || took < peer.Silence-peer.Heartbeat {
				t.Errorf("after %s: %v", took, err)
			}
		}
		at = time.Now()
		_, err := c.Containers(t.Context())
		if took := time.Since(at); !errors.Is(err, peer.ErrUnreachable) || took >= time.Second {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// Without a watch it is noticed too: a request ends, and the connection is given
// up.
func TestPowerOffDuringRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		off := make(chan struct{})
		c := clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{r.addr}, peer.WithDial(r.freezing(off)))
		if _, err := c.Containers(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(off)
		at := time.Now()
		if _, err := c.Containers(t.Context()); err == nil || time.Since(at) > 10*time.Second {
			t.Errorf("after %s: %v", time.Since(at), err)
		}
	})
}

// I3: addresses that cannot be reached cost under a second, however many.
func TestDeadAddresses_I3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		dead := []netip.AddrPort{}
		for i := range 15 {
			dead = append(dead, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 9, byte(i)}), 1))
		}
		refused := netip.MustParseAddrPort("10.8.8.8:1")
		dial := func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			switch a {
			case r.addr:
				return r.dial(ctx, a)
			case refused:
				return nil, errors.New("refused")
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		for _, c := range []struct {
			name   string
			addrs  []netip.AddrPort
			within time.Duration
			ok     bool
		}{
			{"dead ones first", append(dead[:len(dead):len(dead)], r.addr), time.Second, true},
			{"refused first", []netip.AddrPort{refused, r.addr}, time.Millisecond, true},
			{"one dead", dead[:1], time.Second, false},
			{"all dead", dead, time.Second, false},
			{"refused", []netip.AddrPort{refused}, time.Millisecond, false},
			{"none", nil, time.Millisecond, false},
		} {
			client := clientOf(t, r.other, r.flock.NodeID(), c.addrs, peer.WithDial(dial))
			at := time.Now()
			_, err := client.Connect(t.Context())
			if took := time.Since(at); took >= c.within || c.ok != (err == nil) || !c.ok && !errors.Is(err, peer.ErrUnreachable) {
				t.Errorf("%s: after %s: %v", c.name, took, err)
			}
			if c.ok && client.Addr() != r.addr {
				t.Errorf("%s: %s answered", c.name, client.Addr())
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: it looks as if the caller's time was up: %v", c.name, err)
			}
		}
	})
}

// An address where something accepts and never says anything does not keep the
// node from being found at another, nor the caller for long.
func TestMuteAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		mute := netip.MustParseAddrPort("10.8.8.8:1")
		dial := func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			if a == r.addr {
				return r.dial(ctx, a)
			}
			here, there := net.Pipe()
			t.Cleanup(func() { _ = there.Close() })
			go func() { // it takes what is said
				buf := make([]byte, 1024)
				for {
					if _, err := there.Read(buf); err != nil {
						return
					}
				}
			}()
			return here, nil
		}
		c := clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{mute, r.addr}, peer.WithDial(dial))
		at := time.Now()
		if _, err := c.Connect(t.Context()); err != nil || time.Since(at) > time.Second {
			t.Errorf("after %s: %v", time.Since(at), err)
		}
		c = clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{mute}, peer.WithDial(dial))
		at = time.Now()
		if _, err := c.Connect(t.Context()); err == nil || time.Since(at) > 5*time.Second {
			t.Errorf("alone, after %s: %v", time.Since(at), err)
		}
	})
}

// Addresses keep their zones; those that mean nothing are left out, and no more
// than a few are tried, whatever somebody announces.
func TestAddresses(t *testing.T) {
	zoned := netip.MustParseAddrPort("[fe80::1%eth0]:18733")
	addrs := []netip.AddrPort{{}, zoned, zoned, netip.MustParseAddrPort("10.0.0.1:0")}
	for i := range 100 {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), 1))
	}
	f := member(t, trust.NewToken())
	got := peer.AddrsOf(clientOf(t, f, "", addrs))
	if len(got) != 16 || got[0] != zoned || got[1] == zoned {
		t.Errorf("got %v", got)
	}
}
