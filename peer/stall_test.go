package peer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/internal/stall"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/runtime"
)

// stuck has one blob, of which it can read no more than a part until it is freed.
type stuck struct {
	brokenImages
	data  []byte
	part  int64
	freed chan struct{}
}

func (s stuck) OpenBlob(context.Context, string) (runtime.Blob, error) { return stuckBlob{s}, nil }

type stuckBlob struct{ stuck }

func (b stuckBlob) Size() int64  { return int64(len(b.data)) }
func (b stuckBlob) Close() error { return nil }
func (b stuckBlob) ReadAt(p []byte, at int64) (int, error) {
	if at >= b.part {
		<-b.freed
	}
	return bytes.NewReader(b.data).ReadAt(p, at)
}

// I1: a transfer that the node cannot go on with fails, instead of hanging.
func TestNodeStalls_I1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		s := stuck{data: make([]byte, 1<<20), part: 256 << 10, freed: make(chan struct{})}
		defer close(s.freed)
		r.node.AddImages(s)
		d := runtime.Descriptor{Digest: peertest.Digest(s.data), Size: int64(len(s.data))}
		b, err := r.client(t).Blobs("web").Open(t.Context(), d, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		at := time.Now()
		n, err := io.Copy(io.Discard, b)
		if took := time.Since(at); err == nil || n != s.part || took > 11*time.Second {
			t.Errorf("after %s: %d bytes, %v", took, n, err)
		}
	})
}

// I1: nor does a client wait for a node that says nothing about it.
func TestTransferStalls_I1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		c, _ := hostileOn(t, n, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("some"))
			_ = http.NewResponseController(w).Flush() // it is seen below
			<-r.Context().Done()
		}, peer.WithDial(func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) { return n.dialFrom(ctx, somewhere) }))
		b, err := c.Blobs("web").Open(t.Context(), runtime.Descriptor{Digest: peertest.Digest(nil), Size: 1000}, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		at := time.Now()
		got, err := io.ReadAll(b)
		if took := time.Since(at); !errors.Is(err, stall.ErrStalled) || string(got) != "some" || took > 31*time.Second {
			t.Errorf("after %s: %q, %v", took, got, err)
		}
	})
}

// I1: what was read before a cut need not be read again.
func TestCutAndResumed_I1(t *testing.T) {
	r := newRig(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // more than is under way at a time
	d := runtime.Descriptor{Digest: r.images.Put(data), Size: int64(len(data))}
	src := r.client(t).Blobs("web")
	b, err := src.Open(soon(t), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(b, got); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(b)
	if err == nil {
		t.Fatal("all of it came from a server that was closed")
	}
	got = append(got, rest...)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	serveOn(t, peer.NewServer(r.flock, r.node), listenAt(t, r.addr))
	rest, err = read(t, src, d, int64(len(got)))
	if got = append(got, rest...); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, of which %d after the cut, %v", len(got), len(rest), err)
	}
}

// slowNode takes as long as it may.
type slowNode struct{ peertest.Node }

func (*slowNode) Containers(ctx context.Context) ([]peer.Container, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (*slowNode) Spec(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A node that does not know in time what to answer says so, and a watch of it
// ends.
func TestNodeThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMemRig(t)
		n := newMemNet()
		serveOn(t, peer.NewServer(r.flock, &slowNode{}), n)
		r.net = n
		c := r.client(t)
		for name, do := range endpoints {
			if name != "containers" && name != "spec" && name != "events" {
				continue
			}
			at := time.Now()
			if err := do(t, c); err == nil || time.Since(at) > 7*time.Second || name != "events" && !errors.Is(err, peer.ErrRefused) {
				t.Errorf("%s, after %s: %v", name, time.Since(at), err)
			}
		}
	})
}
