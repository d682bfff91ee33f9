package balance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/balance"
)

// The tests of this file run on a clock and a network of their own.

// fakeSocket is a frontend's socket without a network.
type fakeSocket struct {
	in, out         chan fakeDatagram
	closed, late    chan struct{}
	once, onceLater sync.Once
}

type fakeDatagram struct {
	client *net.UDPAddr
	data   string
}

func (s *fakeSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-s.in:
		return copy(b, d.data), d.client, nil
	case <-s.closed:
		return 0, nil, net.ErrClosed
	}
}

func (s *fakeSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case s.out <- fakeDatagram{to.(*net.UDPAddr), string(b)}:
		return len(b), nil
	case <-s.late:
		return 0, os.ErrDeadlineExceeded
	case <-s.closed:
		return 0, net.ErrClosed
	}
}

func (s *fakeSocket) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *fakeSocket) LocalAddr() net.Addr             { return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 53} }
func (s *fakeSocket) SetDeadline(time.Time) error     { return errors.ErrUnsupported }
func (s *fakeSocket) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetWriteDeadline takes any time for one that has passed.
func (s *fakeSocket) SetWriteDeadline(time.Time) error {
	s.onceLater.Do(func() { close(s.late) })
	return nil
}

// udpWorld is a frontend between clients, which are numbers, and backends, which
// are ports.
type udpWorld struct {
	*front
	t      *testing.T
	socket *fakeSocket
	mu     sync.Mutex
	conns  map[int][]net.Conn // the backends' ends, by port
	heard  []string           // what backends received, as port:data
}

func newUDPWorld(t *testing.T, opts ...balance.Option) *udpWorld {
	w := &udpWorld{t: t, conns: map[int][]net.Conn{}, socket: &fakeSocket{
		in: make(chan fakeDatagram), out: make(chan fakeDatagram, 100), closed: make(chan struct{}), late: make(chan struct{}),
	}}
	opts = append(opts, balance.WithUDPDial(w.dial))
	w.front = open(t, balance.Config{Mode: balance.ModeUDP, PacketConn: w.socket}, opts...)
	return w
}

func (w *udpWorld) dial(to netip.AddrPort) (net.Conn, error) {
	near, far := net.Pipe()
	port := int(to.Port())
	w.mu.Lock()
	w.conns[port] = append(w.conns[port], far)
	w.mu.Unlock()
	go func() {
		buf := make([]byte, 100)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.heard = append(w.heard, fmt.Sprintf("%d:%s", port, buf[:n]))
			w.mu.Unlock()
		}
	}()
	return near, nil
}

// say sends a datagram of a client and returns which backends received it.
func (w *udpWorld) say(client int, data string) string {
	w.t.Helper()
	w.mu.Lock()
	w.heard = nil
	w.mu.Unlock()
	w.socket.in <- fakeDatagram{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: client}, data}
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.heard, " ")
}

// answer sends a datagram from the latest socket of a backend and returns what
// clients received.
func (w *udpWorld) answer(port int, data string) string {
	w.t.Helper()
	w.mu.Lock()
	conn := w.conns[port][len(w.conns[port])-1]
	w.mu.Unlock()
	if _, err := conn.Write([]byte(data)); err != nil {
		return err.Error()
	}
	synctest.Wait()
	var got []string
	for len(w.socket.out) > 0 {
		d := <-w.socket.out
		got = append(got, fmt.Sprintf("%d:%s", d.client.Port, d.data))
	}
	return strings.Join(got, " ")
}

func (w *udpWorld) want(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: got %q; want %q", what, got, want)
	}
}

func (w *udpWorld) active() (n int) {
	synctest.Wait()
	for _, s := range w.Status() {
		n += s.Active
	}
	return n
}

const twoBackends = "192.0.2.3:1 192.0.2.3:2"

// A session lives as long as either side says something within the idle
// timeout, and no longer.
func TestUDPIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newUDPWorld(t)
		w.set(strings.Fields(twoBackends)...)
		idle := balance.DefaultUDPIdleTimeout
		w.want("the first", w.say(7, "a"), "1:a")
		time.Sleep(idle - time.Second)
		w.want("the client keeps it", w.say(7, "b"), "1:b")
		time.Sleep(idle - time.Second)
		w.want("so does the backend", w.answer(1, "c"), "7:c")
		time.Sleep(idle - time.Second)
		w.want("still the same", w.say(7, "d"), "1:d")
		if n := w.active(); n != 1 {
			t.Errorf("%d sessions under way; want 1", n)
		}
		time.Sleep(idle - time.Nanosecond)
		if n := w.active(); n != 1 {
			t.Errorf("%d sessions just before the timeout; want 1", n)
		}
		time.Sleep(time.Nanosecond)
		if n := w.active(); n != 0 {
			t.Errorf("%d sessions after the timeout; want 0", n)
		}
		w.want("a new session, in turn", w.say(7, "e"), "2:e")
		if s := w.Status(); s[0].Requests != 1 || s[1].Requests != 1 || s[0].Failures+s[1].Failures != 0 {
			t.Errorf("status = %+v; want a session at each", s)
		}
	})
}

func TestUDPIdleTimeoutOption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newUDPWorld(t, balance.WithUDPIdleTimeout(3*time.Second), balance.WithUDPIdleTimeout(0))
		w.set("192.0.2.3:1")
		w.say(7, "a")
		time.Sleep(2 * time.Second)
		if n := w.active(); n != 1 {
			t.Errorf("%d sessions after 2 s of 3", n)
		}
		time.Sleep(time.Second)
		if n := w.active(); n != 0 {
			t.Errorf("%d sessions after 3 s of 3", n)
		}
	})
}

// When its backend leaves, a client's next datagram goes elsewhere, and an answer
// that is due still passes for a second.
func TestUDPBackendLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newUDPWorld(t)
		w.set("192.0.2.3:1")
		w.say(7, "due")
		w.say(8, "answered")
		w.answer(1, "here") // from the latest socket, that of 8
		w.mu.Lock()
		first, second := w.conns[1][0], w.conns[1][1]
		w.mu.Unlock()
		w.Update([]balance.Backend{{ID: "other", Addr: "192.0.2.3:2"}})
		synctest.Wait()
		if _, err := second.Write([]byte("x")); err == nil {
			t.Error("a session that waits for nothing goes on after its backend left")
		}
		w.want("the next datagram", w.say(7, "next"), "2:next")
		time.Sleep(999 * time.Millisecond)
		if _, err := first.Write([]byte("late")); err != nil {
			t.Errorf("the answer that is due: %v", err)
		}
		synctest.Wait()
		w.want("the late answer and one of the new backend", w.answer(2, "new"), "7:late 7:new")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if _, err := first.Write([]byte("too late")); err == nil {
			t.Error("the old session is there after more than a second")
		}
		if n := w.active(); n != 1 {
			t.Errorf("%d sessions; want that of the new backend", n)
		}
	})
}

// A drain waits for sessions to be quiet, for answers a little longer, and takes
// no newcomers.
func TestUDPDrain(t *testing.T) {
	const quiet = 250 * time.Millisecond
	tests := map[string]struct {
		asked, answered bool
		ago             time.Duration // how long before the drain
		answer          time.Duration // an answer comes after so long in the drain
		goesOn          int           // how often the client goes on, every 200 ms
		want            time.Duration
	}{
		"no session":           {},
		"settled long ago":     {asked: true, answered: true, ago: 10 * time.Second, want: quiet},
		"an answer is due":     {asked: true, want: time.Second},
		"one was due long ago": {asked: true, ago: 10 * time.Second, want: quiet},
		"the answer comes":     {asked: true, answer: 900 * time.Millisecond, want: 900*time.Millisecond + quiet},
		"the client goes on":   {asked: true, answered: true, goesOn: 10, want: 3 * time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newUDPWorld(t)
				w.set("192.0.2.3:1")
				if tc.asked {
					w.want("the question", w.say(7, "a"), "1:a")
				}
				if tc.answered {
					w.want("the answer", w.answer(1, "b"), "7:b")
				}
				time.Sleep(tc.ago)
				began := time.Now()
				took := make(chan time.Duration, 1)
				go func() {
					if err := w.Shutdown(context.Background()); err != nil {
						t.Errorf("Shutdown = %v", err)
					}
					took <- time.Since(began)
				}()
				synctest.Wait()
				if tc.answer > 0 {
					time.Sleep(tc.answer)
					w.want("the answer", w.answer(1, "b"), "7:b")
				}
				for range tc.goesOn {
					time.Sleep(200 * time.Millisecond)
					w.want("a known client", w.say(7, "c"), "1:c")
					w.want("a newcomer", w.say(8, "d"), "")
				}
				if d := <-took; d != tc.want {
					t.Errorf("the drain took %v; want %v", d, tc.want)
				}
			})
		})
	}
}

// The end of Shutdown's context ends a session that never falls quiet.
func TestUDPCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newUDPWorld(t)
		w.set("192.0.2.3:1")
		w.say(7, "a")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- w.Shutdown(ctx) }()
		for {
			select {
			case err := <-done:
				if !errors.Is(err, context.DeadlineExceeded) || !w.log.has("cut off", "sessions=1") {
					t.Errorf("Shutdown = %v, log:\n%s", err, w.log)
				}
				if n := w.active(); n != 0 {
					t.Errorf("%d sessions after the end", n)
				}
				return
			default:
				w.answer(1, "b")
				time.Sleep(100 * time.Millisecond)
			}
		}
	})
}

// A session that waits for room to answer does not hold up the end.
func TestUDPCutOffWhileAnswering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newUDPWorld(t)
		w.set("192.0.2.3:1")
		w.say(7, "a")
		w.mu.Lock()
		conn := w.conns[1][0]
		w.mu.Unlock()
		for range cap(w.socket.out) + 1 {
			if _, err := conn.Write([]byte("b")); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := w.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

// Over the limit the longest silent client without an answer goes first, then
// the longest silent one.
func TestUDPSheds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newUDPWorld(t, balance.WithUDPSessions(3), balance.WithUDPSessions(-1))
		w.set("192.0.2.3:1")
		say := func(client int, answered bool) {
			t.Helper()
			w.say(client, "q")
			if answered {
				w.want("the answer", w.answer(1, "a"), fmt.Sprintf("%d:a", client))
			}
			time.Sleep(time.Millisecond)
		}
		// alive are those clients whose sockets at the backend are open.
		alive := func(want ...int) {
			t.Helper()
			w.mu.Lock()
			conns := append([]net.Conn(nil), w.conns[1]...)
			w.mu.Unlock()
			for _, c := range conns {
				_, _ = c.Write([]byte("?")) // the end of a closed one is what is looked for
			}
			synctest.Wait()
			var got []int
			for len(w.socket.out) > 0 {
				got = append(got, (<-w.socket.out).client.Port)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("sessions of %v; want %v", got, want)
			}
		}
		say(1, true)
		say(2, false)
		say(3, true)
		say(1, false)
		say(4, false) // instead of 2, although 3 was silent for longer than 1
		if s := w.Status()[0]; s.Shed != 1 || s.Active != 3 || s.Requests != 4 || s.Failures != 0 || !s.Healthy {
			t.Errorf("status = %+v; want one shed and three under way", s)
		}
		say(5, false) // instead of 4
		say(6, false) // instead of 5
		alive(1, 3, 6)
		// Now all are answered, 6 by the question itself, and 3 is the one that
		// was silent longest.
		say(7, true)
		alive(1, 6, 7)
		if s := w.Status()[0]; s.Shed != 4 || s.Active != 3 {
			t.Errorf("status = %+v; want four shed and three under way", s)
		}
		if !w.log.has("ended early to make room", "limit=3") {
			t.Errorf("log:\n%s", w.log)
		}
	})
}
