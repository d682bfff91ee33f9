package balance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/testenv"
)

func openUDP(t testing.TB, opts ...balance.Option) *front {
	t.Helper()
	return open(t, balance.Config{Mode: balance.ModeUDP}, opts...)
}

func listenUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// udpBackend passes datagrams to fn, which returns the answer, nil for none.
type udpBackend struct {
	*net.UDPConn
	wg       sync.WaitGroup
	received atomic.Int64
}

func newUDPBackend(t testing.TB, addr string, fn func([]byte) []byte) *udpBackend {
	t.Helper()
	b := &udpBackend{UDPConn: listenUDP(t, addr)}
	b.wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := b.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			b.received.Add(1)
			if answer := fn(buf[:n]); answer != nil {
				b.WriteToUDPAddrPort(answer, from)
			}
		}
	})
	t.Cleanup(b.stop)
	return b
}

func (b *udpBackend) addr() string { return b.LocalAddr().String() }

func (b *udpBackend) stop() {
	b.Close()
	b.wg.Wait()
}

func same(b []byte) []byte { return b }

func named(name string) func([]byte) []byte {
	return func(b []byte) []byte { return append([]byte(name+" "), b...) }
}

// deadUDP is an address at which nobody listens.
func deadUDP(t testing.TB) string {
	c := listenUDP(t, "127.0.0.1:0")
	c.Close()
	return c.LocalAddr().String()
}

func dialUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.UDPConn)
}

// exchange sends one datagram, once, and returns the next that comes.
func exchange(t testing.TB, c *net.UDPConn, question string) string {
	t.Helper()
	if _, err := c.Write([]byte(question)); err != nil {
		t.Fatal(err)
	}
	return readUDP(t, c)
}

func readUDP(t testing.TB, c *net.UDPConn) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return string(buf[:n])
}

// A datagram that a dead backend refused reaches the next one without help of the
// client, which counts as the dead one's failure.
func TestUDPRefusedGoesElsewhere(t *testing.T) {
	f := openUDP(t)
	f.set(deadUDP(t), deadUDP(t), newUDPBackend(t, "127.0.0.1:0", named("c")).addr())
	for i := range 6 {
		if got := exchange(t, dialUDP(t, f.Addr().String()), "hello"); got != "c hello" {
			t.Errorf("client %d got %q", i, got)
		}
	}
	s := f.Status()
	for _, dead := range s[:2] {
		if dead.Healthy || dead.Failures != 1 || dead.Requests != 0 || dead.Active != 0 || !errors.Is(dead.LastError, syscall.ECONNREFUSED) {
			t.Errorf("status = %+v; want one failure, and out of rotation", dead)
		}
	}
	if s[2].Requests != 6 || s[2].Active != 6 || s[2].Failures != 0 || !s[2].Healthy {
		t.Errorf("status = %+v; want all sessions here", s[2])
	}
}

// A backend that dies takes no datagram of its clients with it but those that it
// received.
func TestUDPBackendDies(t *testing.T) {
	f := openUDP(t)
	a := newUDPBackend(t, "127.0.0.1:0", named("a"))
	f.set(a.addr())
	c := dialUDP(t, f.Addr().String())
	if got := exchange(t, c, "1"); got != "a 1" {
		t.Fatalf("got %q", got)
	}
	f.set(a.addr(), newUDPBackend(t, "127.0.0.1:0", named("b")).addr())
	a.stop()
	for i := range 3 {
		q := fmt.Sprint(i)
		if got := exchange(t, c, q); got != "b "+q {
			t.Errorf("got %q", got)
		}
	}
	if s := f.Status(); s[0].Requests != 1 || s[0].Failures != 1 || s[0].Active != 0 || s[1].Requests != 1 || s[1].Active != 1 {
		t.Errorf("status = %+v", s)
	}
}

// Where all backends are dead a datagram visits each once, and is dropped. They
// are tried again for the next one.
func TestUDPAllDead(t *testing.T) {
	f := openUDP(t)
	back := deadUDP(t)
	f.set(deadUDP(t), back)
	c := dialUDP(t, f.Addr().String())
	c.Write([]byte("lost"))
	eventually(t, "the datagram is dropped", func() bool { return f.log.has("datagrams dropped", "attempts=2") })
	if s := f.Status(); s[0].Failures != 1 || s[1].Failures != 1 || s[0].Active+s[1].Active != 0 {
		t.Errorf("status = %+v; want one failure each", s)
	}
	newUDPBackend(t, back, named("back"))
	if got := exchange(t, c, "?"); got != "back ?" {
		t.Errorf("got %q", got)
	}
}

func TestUDPNoBackend(t *testing.T) {
	f := openUDP(t)
	c := dialUDP(t, f.Addr().String())
	for range 5 {
		c.Write([]byte("lost"))
	}
	eventually(t, "a word", func() bool { return f.log.has("datagrams dropped", balance.ErrNoBackend.Error()) })
	f.set(newUDPBackend(t, "127.0.0.1:0", same).addr())
	got := exchange(t, c, "there?")
	for got == "lost" { // the proxy had not read that one yet
		got = readUDP(t, c)
	}
	if got != "there?" {
		t.Errorf("got %q", got)
	}
	if n := strings.Count(f.log.String(), "datagrams dropped"); n != 1 {
		t.Errorf("%d warnings within a moment; want 1", n)
	}
}

// What this machine lacks is no backend's fault; nor does it end the others.
func TestUDPOutOfFiles(t *testing.T) {
	var lack atomic.Bool
	f := openUDP(t, balance.WithUDPDial(func(to netip.AddrPort) (net.Conn, error) {
		if lack.Load() {
			return nil, &net.OpError{Op: "dial", Err: syscall.EMFILE}
		}
		return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	}))
	f.set(newUDPBackend(t, "127.0.0.1:0", same).addr())
	old := dialUDP(t, f.Addr().String())
	exchange(t, old, "1")
	lack.Store(true)
	c := dialUDP(t, f.Addr().String())
	c.Write([]byte("lost"))
	eventually(t, "the failure", func() bool { return f.Status()[0].Failures == 1 })
	if s := f.Status()[0]; !s.Healthy || s.Active != 1 || s.Requests != 1 {
		t.Errorf("status = %+v", s)
	}
	if got := exchange(t, old, "2"); got != "2" {
		t.Errorf("the old session got %q", got)
	}
	lack.Store(false)
	if got := exchange(t, c, "3"); got != "3" {
		t.Errorf("got %q", got)
	}
}

// A name as an address would have to be looked up while all clients wait.
func TestUDPBackendByName(t *testing.T) {
	f := openUDP(t)
	f.set("localhost:53", newUDPBackend(t, "127.0.0.1:0", same).addr())
	if got := exchange(t, dialUDP(t, f.Addr().String()), "x"); got != "x" {
		t.Errorf("got %q", got)
	}
	if s := f.Status()[0]; s.Failures != 1 || s.LastError == nil || !strings.Contains(s.LastError.Error(), "IP address") {
		t.Errorf("status = %+v", s)
	}
}

// A flood of clients costs a bounded number of sessions, and those that talk with
// a backend outlive it.
func TestUDPFlood(t *testing.T) {
	const limit, flood = 16, 300
	f := openUDP(t, balance.WithUDPSessions(limit))
	// It answers those who know the word.
	b := newUDPBackend(t, "127.0.0.1:0", func(b []byte) []byte {
		if string(b) == "please" {
			return b
		}
		return nil
	})
	f.set(b.addr())
	var regulars []*net.UDPConn
	for range limit / 2 {
		c := dialUDP(t, f.Addr().String())
		exchange(t, c, "please")
		regulars = append(regulars, c)
	}
	for i := range flood {
		seen := b.received.Load()
		if _, err := dialUDP(t, f.Addr().String()).Write([]byte("noise")); err != nil {
			t.Fatal(err)
		}
		// One by one, so that the kernel's buffer is no part of the test.
		eventually(t, "the noise arrives", func() bool { return b.received.Load() > seen })
		if i%10 == 0 {
			exchange(t, regulars[i/10%len(regulars)], "please")
		}
	}
	s := f.Status()[0]
	if s.Active != limit || s.Requests != limit/2+flood || s.Shed != limit/2+flood-limit || s.Failures != 0 {
		t.Errorf("status = %+v; want %d sessions, and the others shed", s, limit)
	}
	for i, c := range regulars {
		if got := exchange(t, c, "please"); got != "please" {
			t.Errorf("regular %d got %q", i, got)
		}
	}
	if after := f.Status()[0]; after.Requests != s.Requests {
		t.Errorf("%d regulars lost their session to the flood", after.Requests-s.Requests)
	}
}

// Clients that were answered once and have only listened since are as safe from a flood,
// and so are those beside them, however many they are.
func TestUDPFloodSparesListeners(t *testing.T) {
	const limit, listeners = 64, 32
	f := openUDP(t, balance.WithUDPSessions(limit))
	b := newUDPBackend(t, "127.0.0.1:0", func(b []byte) []byte {
		if string(b) == "noise" {
			return nil
		}
		return b
	})
	f.set(b.addr())
	regular := dialUDP(t, f.Addr().String())
	for range 2 {
		exchange(t, regular, "please")
	}
	for range listeners {
		exchange(t, dialUDP(t, f.Addr().String()), "subscribe")
	}
	for range 2 * limit {
		seen := b.received.Load()
		if _, err := dialUDP(t, f.Addr().String()).Write([]byte("noise")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the noise arrives", func() bool { return b.received.Load() > seen })
	}
	before := f.Status()[0].Requests
	if got := exchange(t, regular, "please"); got != "please" || f.Status()[0].Requests != before {
		t.Errorf("got %q, and a session of its own: the old one was given to the flood", got)
	}
}

// What comes from a backend's address, be it by somebody who says so, is not passed on to
// it: an answer to it would be the next, without an end.
func TestUDPBackendsAddress(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", ":0"} {
		t.Run(bind, func(t *testing.T) {
			f := open(t, balance.Config{Mode: balance.ModeUDP, PacketConn: listenUDP(t, bind)})
			b := newUDPBackend(t, "127.0.0.1:0", same)
			f.set(b.addr())
			to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: f.Addr().(*net.UDPAddr).Port}
			if _, err := b.WriteToUDP([]byte("round and round"), to); err != nil {
				t.Fatal(err)
			}
			c := dialUDP(t, to.String())
			for range 10 {
				if got := exchange(t, c, "x"); got != "x" {
					t.Errorf("got %q", got)
				}
			}
			if n := b.received.Load(); n != 10 {
				t.Errorf("the backend received %d datagrams; want those of the client alone", n)
			}
		})
	}
}

// Nobody makes the frontend talk with itself.
func TestUDPOwnAddress(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		t.Run(bind, func(t *testing.T) {
			conn := listenUDP(t, bind)
			f := open(t, balance.Config{Mode: balance.ModeUDP, PacketConn: conn})
			b := newUDPBackend(t, "127.0.0.1:0", same)
			f.set(b.addr())
			to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: f.Addr().(*net.UDPAddr).Port}
			if _, err := conn.WriteToUDP([]byte("round and round"), to); err != nil {
				t.Fatal(err)
			}
			if got := exchange(t, dialUDP(t, to.String()), "x"); got != "x" {
				t.Errorf("got %q", got)
			}
			if n := b.received.Load(); n != 1 {
				t.Errorf("the backend received %d datagrams; want that of the client alone", n)
			}
		})
	}
}

// IPv6, and both at one socket, on either side.
func TestUDPFamilies(t *testing.T) {
	if c, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
		testenv.Skip(t, "needs IPv6 on the loopback interface")
	} else {
		c.Close()
	}
	for _, tc := range []struct{ bind, dial, backend string }{
		{"[::1]:0", "[::1]", "[::1]:0"},
		{"[::1]:0", "[::1]", "127.0.0.1:0"},
		{"127.0.0.1:0", "127.0.0.1", "[::1]:0"},
		{"[::]:0", "127.0.0.1", "127.0.0.1:0"},
		{"[::]:0", "[::1]", "127.0.0.1:0"},
		{":0", "[::1]", "[::1]:0"},
		{":0", "127.0.0.1", "[::1]:0"},
	} {
		t.Run(fmt.Sprintf("%s at %s to %s", tc.dial, tc.bind, tc.backend), func(t *testing.T) {
			f := open(t, balance.Config{Mode: balance.ModeUDP, PacketConn: listenUDP(t, tc.bind)})
			f.set(newUDPBackend(t, tc.backend, same).addr())
			_, port, err := net.SplitHostPort(f.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c := dialUDP(t, tc.dial+":"+port)
			for _, q := range []string{"one", "", "two"} {
				if got := exchange(t, c, q); got != q {
					t.Errorf("got %q", got)
				}
			}
		})
	}
}

// A socket that is closed behind the frontend's back is told, and Shutdown ends
// all the same.
func TestUDPSocketClosed(t *testing.T) {
	conn := listenUDP(t, "127.0.0.1:0")
	f := open(t, balance.Config{Mode: balance.ModeUDP, PacketConn: conn})
	f.set(newUDPBackend(t, "127.0.0.1:0", same).addr())
	exchange(t, dialUDP(t, f.Addr().String()), "x")
	conn.Close()
	eventually(t, "a word", func() bool { return f.log.has("no longer receives datagrams") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v", err)
	}
}

// TestUDPConcurrent is for the race detector: clients, updates and status at the
// same time.
func TestUDPConcurrent(t *testing.T) {
	f := open(t, balance.Config{Mode: balance.ModeUDP, Algorithm: bunfile.LeastConnections}, balance.WithUDPSessions(4))
	a, b := newUDPBackend(t, "127.0.0.1:0", same).addr(), newUDPBackend(t, "127.0.0.1:0", same).addr()
	f.set(a, b)
	stop := make(chan struct{})
	var churn, load sync.WaitGroup
	dead := deadUDP(t)
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				f.set([][]string{{a}, {a, b}, {dead, b}}[i%3]...)
				f.Status()
			}
		}
	})
	for range 8 {
		c := dialUDP(t, f.Addr().String())
		load.Go(func() {
			for range 50 {
				c.Write([]byte("x"))
				c.SetReadDeadline(time.Now().Add(time.Millisecond))
				c.Read(make([]byte, 1)) // some are lost
			}
		})
	}
	load.Wait()
	close(stop)
	churn.Wait()
	f.set(a)
	if got := exchange(t, dialUDP(t, f.Addr().String()), "still there?"); got != "still there?" {
		t.Errorf("got %q", got)
	}
}

// A datagram and its answer cost no memory once the session is there.
func TestUDPDoesNotAllocate(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		f := open(t, balance.Config{Mode: balance.ModeUDP, PacketConn: listenUDP(t, bind)})
		f.set(newUDPBackend(t, "127.0.0.1:0", same).addr())
		c := dialUDP(t, fmt.Sprintf("127.0.0.1:%d", f.Addr().(*net.UDPAddr).Port))
		question, buf := []byte(strings.Repeat("x", 1200)), make([]byte, 1500)
		n := testing.AllocsPerRun(500, func() {
			_, werr := c.Write(question)
			_, rerr := c.Read(buf)
			if err := errors.Join(werr, rerr); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%v allocations for a datagram and its answer at %s", n, bind)
		}
	}
}
