package budgie_test

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
	"github.com/budgiehq/budgie/trust"
)

// pausable passes connections on to an address until as many bytes came back as
// pauseAfter says. Then it passes on nothing more, as if the process there were paused: the
// connections stay, and new ones are accepted.
type pausable struct {
	net.Listener
	to   string
	left int64

	mu     sync.Mutex
	conns  []net.Conn
	paused chan struct{}
}

func newPausable(t *testing.T, to string) *pausable {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pausable{Listener: ln, to: to, left: math.MaxInt64, paused: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				_ = in.Close()
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			wg.Go(func() { p.pass(in, out, 0) })
			wg.Go(func() { p.pass(out, in, 1) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *pausable) pauseAfter(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = bytes
}

// pass copies, and ends when it is paused. It counts what it copies so many times.
func (p *pausable) pass(from io.Reader, to net.Conn, times int64) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		before := p.left
		if p.left -= int64(n) * times; before > 0 && p.left <= 0 {
			close(p.paused)
		}
		left := p.left
		p.mu.Unlock()
		switch {
		case left <= 0:
			return
		case err != nil:
			_ = to.Close()
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// The node that sends a volume is paused: its connections stay, and nothing comes.
// The join ends long before silence on the connection itself would mean anything.
func TestSeedFromAPausedNode(t *testing.T) {
	t.Parallel()
	token := trust.NewToken()
	a := newNode(t, discoverytest.NewNetwork(), token)
	dir := runWithVolume(t, a)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	large := make([]byte, 1<<20) // nothing of it repeats
	for r, i := rand.New(rand.NewPCG(seed, 0)), 0; i < len(large); i++ {
		large[i] = byte(r.Uint32())
	}
	if err := os.WriteFile(filepath.Join(dir, "random"), large, 0o600); err != nil {
		t.Fatal(err)
	}
	s := discovery.Collect(t.Context(), browse(t, a))[0]
	p := newPausable(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(s.PeerPort)))
	b := newNode(t, discoverytest.NewNetwork(), token, budgie.WithPeers(p.Addr().String()))
	begin := time.Now()
	_, err := b.Join(t.Context(), "web", budgie.OnSeed(func(_ string, e budgie.SeedProgress) {
		if e.Step == budgie.SeedStarted {
			p.pauseAfter(300 << 10)
		}
	}))
	select {
	case <-p.paused:
	default:
		t.Error("it was never paused")
	}
	if !errors.Is(err, peer.ErrSilent) && !errors.Is(err, budgie.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	t.Logf("ended after %v: %v", time.Since(begin).Round(time.Millisecond), err)
	if recs := records(t, b); len(recs) != 0 {
		t.Errorf("it leaves %+v", recs)
	}
}

// Two joins at once on one machine, under different names, make one replica.
func TestJoinTwiceAtOnce(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	if _, err := a.Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	// Both have planned before either goes on.
	var planned, joined sync.WaitGroup
	planned.Add(2)
	errs := make([]error, 2)
	for i, name := range []string{"one", "two"} {
		joined.Go(func() {
			_, errs[i] = b.Join(t.Context(), "web", budgie.Named(name), budgie.OnJoin(func(budgie.JoinPlan) {
				planned.Done()
				planned.Wait()
			}))
		})
	}
	joined.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), budgie.ErrJoined) {
		t.Errorf("got %v", errs)
	}
	if recs := records(t, b); len(recs) != 1 {
		t.Errorf("there is %+v", recs)
	}
}

// The machine's token is changed while it joins: the error says so.
func TestJoinTokenChanged(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	runWithVolume(t, a)
	b := &fakes{runtime: runtimetest.NewFake(), store: memory.New(), network: network, node: network.Join()}
	b.Client = b.client(t)
	if err := b.SetToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	_, err := b.Join(t.Context(), "web", budgie.OnSeed(func(string, budgie.SeedProgress) {
		if _, err := b.RotateToken(t.Context()); err != nil {
			t.Error(err)
		}
	}))
	if err == nil || !strings.Contains(err.Error(), "token was changed while it joined") {
		t.Errorf("got %v", err)
	}
}
