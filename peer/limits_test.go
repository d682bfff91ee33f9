package peer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	goruntime "runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
)

// 10,000 connections that say half a word cost a bounded amount of memory, and
// members get through in between, whether the flood comes from one address or
// from many.
func TestHalfOpenHandshakes(t *testing.T) {
	for _, hosts := range []int{1, 250} {
		t.Run(fmt.Sprintf("from %d addresses", hosts), func(t *testing.T) {
			r := newMemRig(t)
			r.node.Set(container(1))
			const flood = 10000
			before := memory()
			most := 0
			for i := range flood {
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i % hosts)}), uint16(i%60000)+1)
				c, err := r.net.dialFrom(soon(t), from)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close() // the flood lasts
				if n, err := c.Write([]byte{22, 3, 1}); err != nil || n != 3 {
					t.Fatalf("connection %d was not listened to: %v", i, err)
				}
				pending, _, _ := r.server.Counts()
				most = max(most, pending)
				if i%1000 == 999 {
					if _, err := r.client(t).Containers(soon(t)); err != nil {
						t.Errorf("a member after %d: %v", i, err)
					}
				}
			}
			// Those that were given up take a moment to end.
			if all, each := peer.DefaultLimits().Pending(); most > all || most < each || hosts > 1 && most < all {
				t.Errorf("%d handshakes at a time, want %d, %d of an address", most, all, each)
			}
			// The flood's own ends are in it.
			if grown := memory() - before; grown > 32<<20 {
				t.Errorf("%d MiB more are in use", grown>>20)
			}
		})
	}
}

func memory() int64 {
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// The same on real sockets, which nobody closes on purpose.
func TestHalfOpenHandshakesOnSockets(t *testing.T) {
	r := newRig(t)
	for range 300 {
		c, err := net.Dial("tcp", r.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := r.client(t).Containers(soon(t)); err != nil {
		t.Error(err)
	}
}

// An address has its share of handshakes; its flood puts out its own, and not the
// one that somebody else has begun.
func TestHandshakesPerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		first, err := r.net.dialFrom(t.Context(), netip.MustParseAddrPort("10.0.0.3:1"))
		if err != nil {
			t.Fatal(err)
		}
		_, each := peer.DefaultLimits().Pending()
		for range 10 * each {
			c, err := r.net.dialFrom(t.Context(), somewhere)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		synctest.Wait()
		if pending, _, _ := r.server.Counts(); pending != each+1 {
			t.Errorf("%d handshakes, want %d and one", pending, each)
		}
		conn, err := r.other.Client(t.Context(), first, r.flock.NodeID(), peer.ALPN)
		if err != nil {
			t.Fatalf("the one from elsewhere: %v", err)
		}
		_ = conn.Close() // it was only to be made
	})
}

// Where there is no room at all, the address that has most gives some.
func TestHandshakesInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := peer.DefaultLimits()
		l.SetPending(4, 4)
		r := newMemRig(t, peer.WithLimits(l))
		var first *memConn
		for i, host := range []byte{3, 2, 2, 2, 4} {
			c, err := r.net.dialFrom(t.Context(), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, host}), 1))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if i == 0 {
				first = c
			}
			synctest.Wait()
		}
		if _, err := r.other.Client(t.Context(), first, r.flock.NodeID(), peer.ALPN); err != nil {
			t.Errorf("the oldest, of an address with one: %v", err)
		}
	})
}

// A connection has its share of requests at a time; more wait for their turn.
func TestRequestsPerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		c := r.client(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := c.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			go func() {
				for range c.Watch(ctx) {
				}
			}()
		}
		synctest.Wait()
		if _, _, requests := r.server.Counts(); requests != 64 {
			t.Errorf("%d requests at a time", requests)
		}
	})
}

// A handshake that is not over in time is given up, also where a byte comes now
// and then.
func TestHandshakeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		at := time.Now()
		mute, err := r.net.dialFrom(t.Context(), somewhere)
		if err != nil {
			t.Fatal(err)
		}
		slow, err := r.net.dialFrom(t.Context(), somewhere)
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan time.Duration, 2)
		go func() {
			_, _ = io.ReadAll(mute) // until it is given up
			gone <- time.Since(at)
		}()
		go func() {
			hello := append([]byte{22, 3, 1, 1, 0, 1}, make([]byte, 100)...)
			for _, b := range hello {
				if _, err := slow.Write([]byte{b}); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			gone <- time.Since(at)
		}()
		for range 2 {
			if took := <-gone; took > 6*time.Second || took < 4*time.Second {
				t.Errorf("given up after %s", took)
			}
		}
	})
}

// Connections beyond what an address may have are not taken; when one ends
// there is room again.
func TestTooManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := peer.DefaultLimits()
		l.SetConns(3, 2)
		r := newMemRig(t, peer.WithLimits(l))
		var clients []*peer.Client
		from := func(host byte) *peer.Client {
			c := clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{r.addr}, peer.WithDial(func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
				return r.net.dialFrom(ctx, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, host}), 1))
			}))
			clients = append(clients, c)
			return c
		}
		for _, c := range []struct {
			host byte
			ok   bool
		}{{2, true}, {2, true}, {2, false}, {3, true}, {4, false}, {2, false}} {
			if _, err := from(c.host).Connect(t.Context()); c.ok != (err == nil) {
				t.Errorf("from %d: %v", c.host, err)
			}
		}
		if err := clients[0].Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := from(4).Connect(t.Context()); err != nil {
			t.Errorf("after one ended: %v", err)
		}
		if _, n, _ := r.server.Counts(); n != 3 {
			t.Errorf("%d connections", n)
		}
	})
}

// A node that asks for more at a time than its share is told so, and others are
// served.
func TestTooManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := peer.DefaultLimits()
		l.SetRequests(10, 2)
		r := newMemRig(t, peer.WithLimits(l))
		greedy, modest := r.client(t), clientOf(t, member(t, r.token), "", []netip.AddrPort{r.addr}, peer.WithDial(r.dial))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 2 {
			go func() {
				for range greedy.Watch(ctx) {
				}
			}()
		}
		synctest.Wait()
		if _, err := greedy.Containers(t.Context()); !errors.Is(err, peer.ErrBusy) {
			t.Errorf("a third: %v", err)
		}
		if _, err := modest.Containers(t.Context()); err != nil {
			t.Errorf("another node: %v", err)
		}
		cancel()
		synctest.Wait()
		if _, err := greedy.Containers(t.Context()); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// rawMem returns a transport for requests over a network in memory; freeze as
// in memConn.
func (r *memRig) rawMem(t *testing.T, freeze <-chan struct{}) *http.Transport {
	t.Helper()
	tr := r.rawHTTP(t)
	tr.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		raw, err := r.net.dialFrom(ctx, somewhere)
		if err != nil {
			return nil, err
		}
		if freeze != nil {
			raw.freeze, raw.ended = freeze, make(chan struct{})
		}
		return r.other.Client(ctx, raw, r.flock.NodeID(), peer.ALPN)
	}
	return tr
}

func ask(t *testing.T, tr http.RoundTripper, path string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://x"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tr.RoundTrip(req)
}

// Who asks for much and does not read it is cut off, and nobody else notices: on
// the stream where flow control holds it up, and with the whole connection
// where nothing is read from it any more.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		r.node.Set(container(1))
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
		digest := r.images.Put(data)
		lazy, err := ask(t, r.rawMem(t, nil), "/v2/web/blobs/"+digest)
		if err != nil {
			t.Fatal(err)
		}
		off := make(chan struct{})
		dead, err := ask(t, r.rawMem(t, off), "/v2/web/blobs/"+digest)
		if err != nil {
			t.Fatal(err)
		}
		close(off)
		other := clientOf(t, member(t, r.token), r.flock.NodeID(), []netip.AddrPort{r.addr}, peer.WithDial(r.dial))
		for range 5 {
			at := time.Now()
			if _, err := other.Containers(t.Context()); err != nil || time.Since(at) > 0 {
				t.Errorf("somebody else had to wait %s: %v", time.Since(at), err)
			}
			got, err := read(t, other.Blobs("web"), runtime.Descriptor{Digest: digest, Size: int64(len(data))}, 0)
			if err != nil || len(got) != len(data) || time.Since(at) > 0 {
				t.Errorf("somebody else had to wait %s: %d bytes, %v", time.Since(at), len(got), err)
			}
			time.Sleep(4 * time.Second)
		}
		synctest.Wait()
		if _, conns, requests := r.server.Counts(); requests != 0 || conns > 3 {
			t.Errorf("%d requests are under way on %d connections", requests, conns)
		}
		if got, err := io.ReadAll(lazy.Body); err == nil {
			t.Errorf("all %d bytes came", len(got))
		}
		_, _ = lazy.Body.Close(), dead.Body.Close() // they failed
	})
}

// One that reads slowly, but reads, gets it all.
func TestPatientReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		digest := r.images.Put(data)
		b, err := r.client(t).Blobs("web").Open(t.Context(), runtime.Descriptor{Digest: digest, Size: int64(len(data))}, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		buf := make([]byte, 64<<10)
		for n := 0; n < len(data); n += len(buf) {
			if _, err := io.ReadFull(b, buf); err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
}

// Idle connections are closed.
func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		if _, err := r.client(t).Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		if _, conns, _ := r.server.Counts(); conns != 0 {
			t.Errorf("%d connections", conns)
		}
	})
}

// A member cannot ask for strange things.
func TestStrangeRequests(t *testing.T) {
	r := newRig(t)
	r.furnish()
	tr := r.rawHTTP(t)
	id, digest := container(1).ID, "sha256:"+strings.Repeat("0", 64)
	for _, path := range []string{
		"/", "/budgie", "/budgie/v2/", "/budgie/v1", "/budgie/v1/containers/", "/budgie/v1//containers", "/budgie/v1/../v1/containers",
		"/budgie/v1/containers/" + id, "/budgie/v1/containers/" + id + "/spec/", "/budgie/v1/containers/../containers/" + id + "/spec",
		"/budgie/v1/containers/..%2f..%2fetc%2fpasswd/spec", "/budgie/v1/containers/%00/spec", "/budgie/v1/containers/" + id[:12] + "/spec",
		"/budgie/v1/%63ontainers", "/budgie/v1/containers/" + strings.Repeat("a", 10000) + "/spec",
		"/v2/%2e%2e/blobs/" + digest, "/v2/a%2fb/blobs/" + digest, "/v2/web%00/blobs/" + digest, "/v2/web/blobs/..%2f..%2fetc%2fpasswd",
		"/v2/web/blobs/../../../etc/passwd", "/v2/" + strings.Repeat("a/", 300) + "b/blobs/" + digest, "/v2/_catalog", "/v2/web/tags/list",
		"/v2/web/manifests/latest?ns=../..", "/v2/web/manifests/latest?ns=" + strings.Repeat("a", 1000), "/debug/pprof/",
	} {
		resp, err := ask(t, tr, path)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		if _ = resp.Body.Close(); resp.StatusCode != 404 && resp.StatusCode != 400 {
			t.Errorf("%q: status %d", path, resp.StatusCode)
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
		for _, path := range []string{"/budgie/v1/containers", "/v2/web/manifests/latest", "/v2/web/blobs/uploads/"} {
			req, err := http.NewRequestWithContext(soon(t), method, "https://x"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Errorf("%s: %v", method, err)
				continue
			}
			if _ = resp.Body.Close(); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
				t.Errorf("%s %s: status %d", method, path, resp.StatusCode)
			}
		}
	}
	// What is sent along is not read.
	req, err := http.NewRequestWithContext(soon(t), http.MethodGet, "https://x/budgie/v1/containers", endless{})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := tr.RoundTrip(req); err == nil {
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("with a body: status %d", resp.StatusCode)
		}
	}
	// Headers that are too large do no harm.
	req, err = http.NewRequestWithContext(soon(t), http.MethodGet, "https://x/budgie/v1/containers", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 10*peer.MaxHeader))
	if resp, err := tr.RoundTrip(req); err == nil {
		if _ = resp.Body.Close(); resp.StatusCode < 400 {
			t.Errorf("with a large header: status %d", resp.StatusCode)
		}
	}
	if _, err := r.client(t).Containers(soon(t)); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// What the node itself has too much of is not sent.
func TestOwnAnswersAreBounded(t *testing.T) {
	r := newRig(t)
	many := make([]peer.Container, 5000)
	for i := range many {
		many[i] = container(i % 1000)
		many[i].ID = fmt.Sprintf("%064x", i)
	}
	r.node.Set(many...)
	r.node.SetSpec(many[0].ID, make([]byte, peer.MaxSpec+1))
	r.node.SetSpec(many[1].ID, make([]byte, peer.MaxSpec))
	c := r.client(t)
	if _, err := c.Containers(soon(t)); !errors.Is(err, peer.ErrRefused) {
		t.Errorf("too many containers: %v", err)
	}
	r.node.Set(many[:1000]...)
	if got, err := c.Containers(soon(t)); err != nil || len(got) != 1000 {
		t.Errorf("%d containers, %v", len(got), err)
	}
	if _, err := c.Spec(soon(t), many[0].ID); !errors.Is(err, peer.ErrRefused) {
		t.Errorf("a large specification: %v", err)
	}
	if text, err := c.Spec(soon(t), many[1].ID); err != nil || len(text) != peer.MaxSpec {
		t.Errorf("the largest specification: %d bytes, %v", len(text), err)
	}
}
