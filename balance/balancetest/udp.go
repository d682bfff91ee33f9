package balancetest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// receives checks that a socket is open and nobody else reads from it.
func receives(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	c, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Write([]byte("x"))
	conn.SetReadDeadline(time.Now().Add(patience))
	n, _, rerr := conn.ReadFrom(make([]byte, 8))
	if err := errors.Join(err, rerr); err != nil || n != 1 {
		t.Fatalf("the socket is not open after the error: %v", err)
	}
}

func frontUDP(t *testing.T, b Balancer, alg bunfile.Algorithm) balance.Frontend {
	t.Helper()
	f, err := b.Listen(t.Context(), balance.Config{Name: "dns", PacketConn: listenUDP(t), Mode: balance.ModeUDP, Algorithm: alg})
	if err != nil {
		t.Fatal(err)
	}
	shutdownLater(t, f)
	return f
}

// echoUDP answers every datagram with its name in front of it.
type echoUDP struct {
	name string
	conn *net.UDPConn
	wg   sync.WaitGroup

	mu      sync.Mutex
	clients map[string]int // datagrams, by the address they came from
}

func newEchoUDP(t *testing.T, name string) *echoUDP {
	e := &echoUDP{name: name, conn: listenUDP(t), clients: map[string]int{}}
	e.wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := e.conn.ReadFromUDP(buf[len(name):])
			if err != nil {
				return
			}
			e.mu.Lock()
			e.clients[from.String()]++
			e.mu.Unlock()
			copy(buf, name)
			_, _ = e.conn.WriteToUDP(buf[:len(name)+n], from) // a datagram may be lost
		}
	})
	t.Cleanup(e.close)
	return e
}

func (e *echoUDP) close() {
	e.conn.Close()
	e.wg.Wait()
}

func (e *echoUDP) backend() balance.Backend {
	return balance.Backend{ID: "echo-" + e.name, Addr: e.conn.LocalAddr().String()}
}

func (e *echoUDP) counts() (clients, datagrams int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.clients {
		datagrams += n
	}
	return len(e.clients), datagrams
}

func dialUDP(t *testing.T, f balance.Frontend) *net.UDPConn {
	t.Helper()
	c, err := net.Dial("udp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// ask sends a datagram until an answer to it comes, as clients of UDP do. Late
// answers to others are passed over.
func ask(t *testing.T, c *net.UDPConn, question string) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := c.Write([]byte(question)); err != nil {
			continue // the last one was refused
		}
		c.SetReadDeadline(time.Now().Add(patience / 50))
		for {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			if answer := string(buf[:n]); strings.HasSuffix(answer, question) {
				return answer
			}
		}
	}
	t.Fatalf("no answer to %.40q", question)
	return ""
}

func testNoBackendUDP(t *testing.T, b Balancer) {
	f := frontUDP(t, b, "")
	c := dialUDP(t, f)
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	f.Update([]balance.Backend{newEchoUDP(t, "a").backend()})
	if got := ask(t, c, "?"); got != "a?" {
		t.Errorf("got %q", got)
	}
}

func testUDP(t *testing.T, b Balancer) {
	for _, alg := range []bunfile.Algorithm{"", bunfile.RoundRobin, bunfile.LeastConnections} {
		t.Run("algorithm="+string(alg), func(t *testing.T) {
			f := frontUDP(t, b, alg)
			x, y := newEchoUDP(t, "x"), newEchoUDP(t, "y")
			f.Update([]balance.Backend{x.backend(), y.backend()})
			served := map[string]int{}
			for i := range 8 {
				served[ask(t, dialUDP(t, f), strconv.Itoa(i))[:1]]++
			}
			if served["x"] != 4 || served["y"] != 4 {
				t.Errorf("clients went to %v; want each backend to have half of them", served)
			}
			for _, s := range f.Status() {
				if s.Requests != 4 || s.Active != 4 || s.Failures != 0 || s.LastError != nil || !s.Healthy {
					t.Errorf("status = %+v; want 4 sessions under way", s)
				}
			}
		})
	}
}

// testUDPSizes: datagrams pass whole, the empty and the largest one (RFC 791 and
// 768: 65,535 bytes less the headers of IP and UDP).
func testUDPSizes(t *testing.T, b Balancer) {
	f := frontUDP(t, b, "")
	echo := newEchoUDP(t, "")
	f.Update([]balance.Backend{echo.backend()})
	c := dialUDP(t, f)
	// macOS wants larger buffers for the largest ones.
	for _, conn := range []*net.UDPConn{c, echo.conn} {
		if err := errors.Join(conn.SetWriteBuffer(1<<17), conn.SetReadBuffer(1<<17)); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{0, 1, 512, 1472, 1473, 2048, 9000, 65507} {
		question := strings.Repeat("0123456789", size/10+1)[:size]
		if got := ask(t, c, question); got != question {
			t.Errorf("a datagram of %d bytes came back with %d", size, len(got))
		}
	}
}

func testUDPAffinity(t *testing.T, b Balancer) {
	f := frontUDP(t, b, "")
	x, y := newEchoUDP(t, "x"), newEchoUDP(t, "y")
	f.Update([]balance.Backend{x.backend(), y.backend()})
	var wg sync.WaitGroup
	for i := range 6 {
		c := dialUDP(t, f)
		wg.Go(func() {
			first := ""
			buf := make([]byte, 64)
			for n := range 20 {
				question := []byte("client " + strconv.Itoa(i) + ", question " + strconv.Itoa(n))
				c.SetDeadline(time.Now().Add(patience))
				_, werr := c.Write(question)
				size, rerr := c.Read(buf)
				if err := errors.Join(werr, rerr); err != nil || !bytes.Equal(buf[1:size], question) {
					t.Errorf("to %q came %q, %v", question, buf[:size], err)
					return
				}
				if who := string(buf[:1]); first == "" {
					first = who
				} else if who != first {
					t.Errorf("client %d went from backend %s to %s", i, first, who)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, e := range []*echoUDP{x, y} {
		if clients, datagrams := e.counts(); clients != 3 || datagrams != 60 {
			t.Errorf("backend %s saw %d sockets and %d datagrams; want 3 and 60", e.name, clients, datagrams)
		}
	}
}

// testUDPUpdate: a client stays with its backend for as long as that stays.
func testUDPUpdate(t *testing.T, b Balancer) {
	f := frontUDP(t, b, "")
	x, y := newEchoUDP(t, "x"), newEchoUDP(t, "y")
	c := dialUDP(t, f)
	f.Update([]balance.Backend{x.backend()})
	if got := ask(t, c, "1"); got != "x1" {
		t.Fatalf("got %q", got)
	}
	f.Update([]balance.Backend{y.backend(), x.backend()})
	if got := ask(t, c, "2"); got != "x2" {
		t.Errorf("got %q after a backend joined; want it from the same one", got)
	}
	f.Update([]balance.Backend{y.backend()})
	if got := ask(t, c, "3"); got != "y3" {
		t.Errorf("got %q after the backend left; want it from the other one", got)
	}
	_, before := x.counts()
	if got := ask(t, c, "4"); got != "y4" {
		t.Errorf("got %q", got)
	}
	if _, after := x.counts(); after != before {
		t.Error("a backend that left still gets datagrams")
	}
	if s := f.Status(); len(s) != 1 || s[0].Requests != 1 || s[0].Active != 1 {
		t.Errorf("status = %+v; want one session at y", s)
	}
}

func testUDPDeadBackend(t *testing.T, b Balancer) {
	f := frontUDP(t, b, "")
	x, y := newEchoUDP(t, "x"), newEchoUDP(t, "y")
	c := dialUDP(t, f)
	f.Update([]balance.Backend{x.backend()})
	if got := ask(t, c, "1"); got != "x1" {
		t.Fatalf("got %q", got)
	}
	f.Update([]balance.Backend{x.backend(), y.backend()})
	x.close()
	// It may take a try or two; the client's socket remains the same.
	if got := ask(t, c, "2"); got != "y2" {
		t.Errorf("got %q; want an answer of the backend that lives", got)
	}
	s := waitStatus(t, f, func(s []balance.BackendStatus) bool { return s[0].Failures > 0 && s[0].Active == 0 })
	if s[0].LastError == nil {
		t.Errorf("status = %+v; want an error of the dead backend", s[0])
	}
}

func testUDPShutdown(t *testing.T, b Balancer) {
	f := frontUDP(t, b, "")
	x := newEchoUDP(t, "x")
	f.Update([]balance.Backend{x.backend()})
	c := dialUDP(t, f)
	ask(t, c, "?")
	addr := f.Addr().String()
	done := make(chan error, 2)
	for range cap(done) {
		go func() { done <- f.Shutdown(context.Background()) }()
	}
	for range cap(done) {
		if err := wait(t, done); err != nil {
			t.Errorf("Shutdown = %v; want a quiet session to end", err)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Shutdown(ended); err != nil {
		t.Errorf("Shutdown after the end = %v; want nil whatever the context", err)
	}
	again, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatalf("the port is not free after Shutdown: %v", err)
	}
	again.Close()
	f.Update(nil)
	if s := f.Status(); len(s) != 1 || s[0].Active != 0 {
		t.Errorf("status = %+v after Shutdown; want what was before, and nothing under way", s)
	}
}
