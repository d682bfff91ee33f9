package peer_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// BenchmarkBlob reads a layer of 64 MiB over loopback.
func BenchmarkBlob(b *testing.B) {
	tok := trust.NewToken()
	var flocks [2]*trust.Flock
	for i := range flocks {
		f, err := trust.New(trust.WithToken(tok, "a benchmark"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		flocks[i] = f
	}
	images, node := &peertest.Images{}, &peertest.Node{}
	node.AddImages(images)
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
	d := runtime.Descriptor{Digest: images.Put(data), Size: int64(len(data))}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := peer.NewServer(flocks[0], node)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	c := peer.NewClient(flocks[1], "", []netip.AddrPort{netip.MustParseAddrPort(ln.Addr().String())})
	src := c.Blobs("web")
	b.SetBytes(d.Size)
	for b.Loop() {
		r, err := src.Open(context.Background(), d, 0)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != d.Size {
			b.Fatal(n, err)
		}
		_ = r.Close() // it was read
	}
	_ = c.Close() // nothing uses it
	if err := s.Close(); err != nil {
		b.Error(err)
	}
	if err := <-served; err != nil {
		b.Error(err)
	}
}
