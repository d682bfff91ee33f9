package balance_test

import (
	"context"
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"sync/atomic"
	"testing"

	"github.com/budgiehq/budgie/balance"
)

// tunnelling is a frontend whose backends with names are reached by dial.
func tunnelling(t *testing.T, dial func(ctx context.Context, addr string) (net.Conn, error)) *front {
	t.Helper()
	return open(t, balance.Config{Mode: balance.ModeUDP, Dial: dial})
}

// While a tunnel is made others are served, and what its client sends waits for it.
func TestUDPTunnelTakesItsTime(t *testing.T) {
	far := newUDPBackend(t, "127.0.0.1:0", named("far"))
	begun, ready := make(chan struct{}), make(chan struct{})
	f := tunnelling(t, func(ctx context.Context, addr string) (net.Conn, error) {
		close(begun) // one client, one tunnel
		<-ready
		return new(net.Dialer).DialContext(ctx, "udp", far.addr())
	})
	f.set("far.test:53")
	waits := dialUDP(t, f.Addr().String())
	for i := range 3 {
		if _, err := waits.Write([]byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	<-begun
	f.set("far.test:53", newUDPBackend(t, "127.0.0.1:0", named("near")).addr())
	for range 2 {
		// Whoever is sent to the tunnel would close begun again.
		if c := dialUDP(t, f.Addr().String()); f.Status()[1].Requests == 0 {
			if got := exchange(t, c, "?"); got != "near ?" {
				t.Errorf("another client got %q", got)
			}
		}
	}
	close(ready)
	for i := range 3 {
		if got := readUDP(t, waits); got != fmt.Sprint("far ", i) {
			t.Errorf("answer %d is %q", i, got)
		}
	}
	if got := exchange(t, waits, "again"); got != "far again" {
		t.Errorf("the next answer is %q", got)
	}
}

// What a tunnel that does not come about, or breaks, was given goes elsewhere, as to the
// next backend does what a dead one refused.
func TestUDPTunnelFails(t *testing.T) {
	for name, why := range map[string]error{
		"Context": context.DeadlineExceeded, // is a timeout, as many reasons are
		"Socket":  &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) { testUDPTunnelFails(t, why) })
	}
}

func testUDPTunnelFails(t *testing.T, why error) {
	var broken atomic.Pointer[net.UDPConn]
	far := newUDPBackend(t, "127.0.0.1:0", named("far"))
	f := tunnelling(t, func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == "dead.test:53" {
			return nil, why
		}
		c, err := new(net.Dialer).DialContext(ctx, "udp", far.addr())
		if err == nil {
			broken.Store(c.(*net.UDPConn))
		}
		return c, err
	})
	f.set("dead.test:53", "far.test:53")
	c := dialUDP(t, f.Addr().String())
	if got := exchange(t, c, "hello"); got != "far hello" {
		t.Errorf("got %q", got)
	}
	if s := f.Status(); s[0].Healthy || s[0].Failures != 1 {
		t.Errorf("the dead one: %+v", s[0])
	}
	near := newUDPBackend(t, "127.0.0.1:0", named("near"))
	f.set("dead.test:53", "far.test:53", near.addr())
	_ = broken.Load().Close()
	eventually(t, "the session ends", func() bool { return f.Status()[1].Active == 0 })
	if got := exchange(t, c, "still"); got != "near still" {
		t.Errorf("then got %q", got)
	}
}

// A tunnel that takes nothing costs no more than its bounds, and holds up nobody.
func TestUDPTunnelIsStuck(t *testing.T) {
	f := tunnelling(t, func(context.Context, string) (net.Conn, error) {
		near, far := net.Pipe() // what is written to it waits for a reader
		t.Cleanup(func() { _ = far.Close() })
		return near, nil
	})
	f.set("far.test:53")
	c := dialUDP(t, f.Addr().String())
	large := make([]byte, 60000)
	before := heapInUse()
	for range 2000 {
		if _, err := c.Write(large); err != nil {
			t.Fatal(err)
		}
	}
	if grown := int64(heapInUse()) - int64(before); grown > 16<<20 {
		t.Errorf("%d bytes wait for a tunnel that takes nothing", grown)
	}
	f.set(newUDPBackend(t, "127.0.0.1:0", named("near")).addr())
	if got := exchange(t, dialUDP(t, f.Addr().String()), "?"); got != "near ?" {
		t.Errorf("got %q", got)
	}
}

func heapInUse() uint64 {
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.HeapAlloc
}
