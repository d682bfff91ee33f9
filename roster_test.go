package budgie

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/trust"
)

// rosterBench is a roster whose endpoints the test plays.
type rosterBench struct {
	*roster
	t      *testing.T
	flock  *trust.Flock
	events chan discovery.Event
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	dials []*playedClient
}

// playedClient is a connection whose other end is the test.
type playedClient struct {
	addrs []netip.Addr
	says  chan playedWord
}

type playedWord struct {
	containers []peer.Container
	err        error
}

func (c *playedClient) Addr() netip.AddrPort { return netip.AddrPortFrom(c.addrs[0], 18733) }
func (c *playedClient) Close() error         { return nil }

func (c *playedClient) WatchNode(ctx context.Context) iter.Seq2[peer.Told, error] {
	return func(yield func(peer.Told, error) bool) {
		for {
			select {
			case w := <-c.says:
				if !yield(peer.Told{Containers: w.containers}, w.err) || w.err != nil {
					return
				}
			case <-ctx.Done():
				yield(peer.Told{}, ctx.Err())
				return
			}
		}
	}
}

func newRosterBench(t *testing.T) *rosterBench {
	b := newUnstartedBench(t, time.Second, func(string) {})
	b.start()
	return b
}

// start runs it, until end.
func (b *rosterBench) start() {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel = cancel
	go func() {
		defer close(b.done)
		b.run(ctx, b.events)
	}()
}

// newUnstartedBench returns one that nobody runs yet.
func newUnstartedBench(t *testing.T, delay time.Duration, changed func(id string)) *rosterBench {
	f, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	b := &rosterBench{t: t, flock: f, events: make(chan discovery.Event), done: make(chan struct{})}
	dial := func(_ *trust.Flock, s discovery.Service) rosterClient {
		c := &playedClient{s.Addrs, make(chan playedWord)}
		b.mu.Lock()
		b.dials = append(b.dials, c)
		b.mu.Unlock()
		return c
	}
	b.roster = newRoster(func() (*trust.Flock, error) { return f, nil }, dial, delay, changed)
	return b
}

func (b *rosterBench) end() {
	b.cancel()
	<-b.done
	_ = b.flock.Close()
}

// service is an announcement of a replica of another node of the flock.
func (b *rosterBench) service(digit, addr string) discovery.Service {
	g, err := b.flock.Current()
	if err != nil {
		b.t.Fatal(err)
	}
	return discovery.Service{
		ID: strings.Repeat(digit, 64), ServiceID: strings.Repeat(digit, 64), Name: "web", Node: "node" + digit,
		Flock: g.FlockID(), PeerPort: 18733, Addrs: []netip.Addr{netip.MustParseAddr(addr)},
	}
}

func (b *rosterBench) announce(s discovery.Service) {
	b.events <- discovery.Event{Type: discovery.Added, Service: s}
	synctest.Wait()
}

// last returns the connection that was made last, the nth in all.
func (b *rosterBench) last(n int) *playedClient {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.dials) != n {
		b.t.Fatalf("%d connections were made, want %d", len(b.dials), n)
	}
	return b.dials[n-1]
}

// says makes the other end say something.
func (c *playedClient) say(err error, containers ...peer.Container) {
	c.says <- playedWord{containers, err}
	synctest.Wait()
}

func (b *rosterBench) want(id string, present, proved bool) {
	b.t.Helper()
	_, isPresent := b.seen(id)
	_, _, _, isProved := b.proved(id)
	if isPresent != present || isProved != proved {
		b.t.Errorf("present %v, proved %v; want %v, %v", isPresent, isProved, present, proved)
	}
}

// A node that proves itself, falls silent, and comes back.
func TestRosterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRosterBench(t)
		defer b.end()
		s := b.service("1", "10.0.0.1")
		b.announce(s)
		b.want(s.ID, true, false)
		b.last0()
		time.Sleep(time.Second)
		synctest.Wait()
		b.last(1).say(nil, peer.Container{ID: s.ID, Node: s.Node})
		b.want(s.ID, true, true)
		if _, addr, ours, _ := b.proved(s.ID); addr.Addr() != s.Addrs[0] || !ours {
			t.Errorf("it was proved at %v, ours %v", addr, ours)
		}
		b.last(1).say(peer.ErrSilent)
		b.want(s.ID, false, false)
		// It is tried again, and again later, until it answers.
		time.Sleep(rosterRetry)
		synctest.Wait()
		b.last(2).say(peer.ErrUnreachable)
		time.Sleep(2 * rosterRetry)
		synctest.Wait()
		b.want(s.ID, false, false)
		b.last(3).say(nil, peer.Container{ID: s.ID, Node: s.Node})
		b.want(s.ID, true, true)
		// What the node does not run it does not prove, whatever is announced.
		b.last(3).say(nil)
		b.want(s.ID, true, false)
	})
}

// An endpoint that sends away who watches it, as when another process takes over from
// it, is asked again at once, and is not silent, unless nobody answers then; not so one
// that does it again and again.
func TestRosterSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRosterBench(t)
		defer b.end()
		s := b.service("1", "10.0.0.1")
		b.announce(s)
		time.Sleep(time.Second)
		synctest.Wait()
		b.last(1).say(nil, peer.Container{ID: s.ID})
		time.Sleep(rosterRetry)
		b.last(1).say(fmt.Errorf("peer: %w", peer.ErrSentAway))
		b.want(s.ID, true, true)
		b.last(2).say(nil, peer.Container{ID: s.ID})
		b.want(s.ID, true, true)
		b.last(2).say(peer.ErrSentAway)
		b.last(2)
		b.want(s.ID, false, false)
		time.Sleep(rosterRetry)
		synctest.Wait()
		b.last(3).say(nil, peer.Container{ID: s.ID})
		time.Sleep(rosterRetry)
		b.last(3).say(peer.ErrSentAway)
		b.want(s.ID, true, true)
		b.last(4).say(peer.ErrUnreachable)
		b.want(s.ID, false, false)
	})
}

// An endpoint that is announced no more is followed for a moment: it may be announced
// again, and then is the same, or else is left.
func TestRosterLastLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRosterBench(t)
		defer b.end()
		s := b.service("1", "10.0.0.1")
		b.announce(s)
		time.Sleep(time.Second)
		synctest.Wait()
		b.last(1).say(nil, peer.Container{ID: s.ID})
		remove := func() {
			b.events <- discovery.Event{Type: discovery.Removed, Service: s}
			synctest.Wait()
			b.want(s.ID, false, false)
		}
		remove()
		time.Sleep(lastLook - time.Second)
		b.announce(s)
		b.want(s.ID, true, true)
		time.Sleep(lastLook)
		b.last(1).say(nil, peer.Container{ID: s.ID})
		b.want(s.ID, true, true)
		remove()
		time.Sleep(lastLook + time.Second)
		b.announce(b.service("2", "10.0.0.2")) // and what is over is forgotten
		time.Sleep(time.Second)
		synctest.Wait()
		if len(b.endpoints) != 1 || len(b.left) != 0 {
			t.Errorf("%d endpoints are kept, and %d replicas that left", len(b.endpoints), len(b.left))
		}
		b.announce(s)
		b.want(s.ID, true, false)
		time.Sleep(time.Second)
		synctest.Wait()
		b.last(3).say(nil, peer.Container{ID: s.ID})
		b.want(s.ID, true, true)
	})
}

// last0 checks that no connection was made.
func (b *rosterBench) last0() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.dials) != 0 {
		b.t.Error("who only lists connects")
	}
}

// A node that moves to another address is connected to there at once.
func TestRosterMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRosterBench(t)
		defer b.end()
		s := b.service("1", "10.0.0.1")
		b.announce(s)
		time.Sleep(time.Second)
		synctest.Wait()
		b.last(1).say(nil, peer.Container{ID: s.ID})
		moved := b.service("1", "10.0.0.2")
		more := moved
		more.Addrs = append(slices.Clone(moved.Addrs), s.Addrs...)
		b.announce(more) // the old one is still there
		b.last(1)
		b.announce(moved)
		b.want(s.ID, true, true) // it is not dead
		b.last(2).say(nil, peer.Container{ID: s.ID})
		if _, addr, _, ok := b.proved(s.ID); !ok || addr.Addr() != moved.Addrs[0] {
			t.Errorf("it is proved at %v, %v", addr, ok)
		}
	})
}

// Who is not trusted stays an announcement, and others' are left alone.
func TestRosterStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRosterBench(t)
		defer b.end()
		liar, other, mute, own := b.service("1", "10.0.0.1"), b.service("2", "10.0.0.2"), b.service("3", "10.0.0.3"), b.service("4", "10.0.0.4")
		other.Flock, mute.PeerPort, own.Node = "another", 0, b.flock.NodeID()
		for _, s := range []discovery.Service{liar, other, mute, own} {
			b.announce(s)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		b.last(1).say(errors.Join(trust.ErrNotTrusted, errors.New("self-made")))
		for _, s := range []discovery.Service{liar, other, mute, own} {
			b.want(s.ID, true, false)
		}
		if _, _, ours, _ := b.proved(other.ID); ours {
			t.Error("a replica of another flock counts as ours")
		}
	})
}

// Two replicas of one endpoint share a connection, which ends with the last.
func TestRosterSharedEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRosterBench(t)
		defer b.end()
		one, two := b.service("1", "10.0.0.1"), b.service("2", "10.0.0.1")
		two.Node = one.Node
		b.announce(one)
		b.announce(two)
		time.Sleep(time.Second)
		synctest.Wait()
		b.last(1).say(nil, peer.Container{ID: one.ID}, peer.Container{ID: two.ID})
		b.want(two.ID, true, true)
		b.events <- discovery.Event{Type: discovery.Removed, Service: one}
		synctest.Wait()
		b.want(one.ID, false, false)
		b.last(1).say(nil, peer.Container{ID: two.ID})
		b.want(two.ID, true, true)
		b.events <- discovery.Event{Type: discovery.Removed, Service: two}
		time.Sleep(lastLook)
		synctest.Wait()
		for _, e := range b.endpoints {
			if e.ctx.Err() == nil {
				t.Error("an endpoint is followed that nothing leads to")
			}
		}
	})
}

// What one of two sources tells of a replica is there until neither does.
func TestMergedDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := discovery.NewHub()
		out, err := hub.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first, second := make(chan discovery.Event), make(chan discovery.Event)
		go func() {
			defer hub.Close()
			merge(hub, first, second)
		}()
		told, announced := discovery.Service{ID: "x", Name: "told"}, discovery.Service{ID: "x", Name: "announced"}
		var got []string
		next := func() {
			e := <-out
			got = append(got, e.Type.String()+" "+e.Service.Name)
		}
		second <- discovery.Event{Type: discovery.Added, Service: announced}
		next()
		first <- discovery.Event{Type: discovery.Added, Service: told}
		next()
		first <- discovery.Event{Type: discovery.Removed, Service: told}
		next()
		second <- discovery.Event{Type: discovery.Removed, Service: announced}
		next()
		close(first)
		close(second)
		if _, open := <-out; open {
			t.Error("the merged events go on")
		}
		if want := []string{"added announced", "updated told", "updated announced", "removed announced"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Connections to a replica go on when it does not serve any more, or is announced no
// more, and are broken off when its node falls silent, which may be known by another
// address by then.
func TestTunnelsToTheSilentAreCut(t *testing.T) {
	for name, silent := range map[string]bool{"Silent": true, "Not ready": false, "Silent and announced no more": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &Client{log: slog.New(slog.DiscardHandler)}
				var b *rosterBench
				backends := make(map[string]bool)
				tunnels := newTunnels(func() (*trust.Flock, error) { return b.flock, nil })
				b = newUnstartedBench(t, 0, func(id string) {
					_, ok := c.backend(b.roster, tunnels, id, balanced{"web", bunfile.TCP})
					backends[id] = ok
				})
				b.start()
				defer b.end()
				s := b.service("1", "10.0.0.1")
				b.announce(s)
				serving := peer.Container{
					ID: s.ID, ServiceID: s.ServiceID, Name: "web", Node: s.Node, Ready: true,
					Endpoints: []lifecycle.Endpoint{{ContainerPort: 80, Port: 80, Protocol: bunfile.TCP}},
				}
				b.last(1).say(nil, serving)
				if !backends[s.ID] {
					t.Fatal("a replica that serves is no backend")
				}
				near, far := net.Pipe()
				defer near.Close()
				conn := tunnels.watch(s.ID, far)
				defer conn.Close()
				if silent {
					time.Sleep(newTunnel)
				}
				// One that is made just before the silence is noticed shows that the node is back.
				back, farBack := net.Pipe()
				defer back.Close()
				defer tunnels.watch(s.ID, farBack).Close()
				moved := b.service("1", "10.0.0.2")
				b.announce(moved)
				b.last(2).say(nil, serving)
				if silent {
					if name != "Silent" {
						b.events <- discovery.Event{Type: discovery.Removed, Service: moved}
						synctest.Wait()
					}
					b.last(2).say(peer.ErrSilent)
				} else {
					serving.Ready = false
					b.last(2).say(nil, serving)
					b.events <- discovery.Event{Type: discovery.Removed, Service: moved}
					synctest.Wait()
				}
				if backends[s.ID] {
					t.Error("it still is a backend")
				}
				_ = near.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := near.Read(make([]byte, 1)); errors.Is(err, io.EOF) != silent {
					t.Errorf("the connection ends with %v", err)
				}
				_ = back.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := back.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
					t.Errorf("the connection to the node that is back ends with %v", err)
				}
			})
		})
	}
}
