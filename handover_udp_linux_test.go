package budgie_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
)

// A UDP address changes hands and loses no question, whoever serves TCP at the same
// number; that one is left alone.
func TestCaseB9BalanceOfUDPIsTakenOver(t *testing.T) {
	f := newFakes(t)
	if _, err := f.Run(t.Context(), always(dns("dns"))); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	balancer := func(opts ...budgie.Option) *budgie.Client {
		n := newFakes(t)
		n.node = f.network.Join(netip.MustParseAddr("127.0.0.1"))
		return n.client(t, append(opts, budgie.WithDataDir(dir))...)
	}
	other := balancer(budgie.WithHandOver())
	tcp, err := other.Balance(t.Context(), "dns", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, overUDP := tcp.Addr().String(), budgie.WithMode(balance.ModeUDP)
	now := balancer(budgie.WithHandOver())
	front, err := now.Balance(t.Context(), "dns", addr, overUDP)
	if err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, front, 1)
	if _, err := balancer().Balance(t.Context(), "dns", addr, overUDP); err == nil {
		t.Fatal("the address was taken over by one who was not to")
	}
	asked, stop := questions(t, addr)
	defer stop()
	for range 3 {
		answered(t, asked, 50)
		next := balancer(budgie.WithHandOver(), budgie.WithTakeOver())
		nextFront, err := next.Balance(t.Context(), "dns", addr, overUDP)
		if err != nil {
			t.Fatal(err)
		}
		awaitReplaced(t, now)
		if err := front.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		now, front = next, nextFront
	}
	answered(t, asked, 50)
	select {
	case <-other.Replaced():
		t.Error("the one that serves TCP was replaced")
	default:
	}
}

// questions asks an address of UDP without pause, each question once, until stop.
func questions(t *testing.T, addr string) (asked *atomic.Int64, stop func()) {
	conn := dialUDP(t, addr)
	asked, ended := new(atomic.Int64), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		for buf := make([]byte, 100); ctx.Err() == nil; asked.Add(1) {
			want := fmt.Sprint(asked.Load())
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprint(conn, want)
			if n, err := conn.Read(buf); err != nil || string(buf[:n]) != want {
				t.Errorf("question %s got %q, %v", want, buf[:n], err)
				return
			}
		}
	}()
	return asked, sync.OnceFunc(func() {
		cancel()
		<-ended
	})
}
