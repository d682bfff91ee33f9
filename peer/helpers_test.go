package peer_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waiting for what must happen, so that a test that fails ends.
const patience = 30 * time.Second

// soon returns a context for what must happen.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// member returns a node of a token's flock that keeps nothing on disk.
func member(t *testing.T, tok trust.Token) *trust.Flock {
	t.Helper()
	f, err := trust.New(trust.WithToken(tok, "a test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// rig is a node's endpoint on loopback, and another member of its flock.
type rig struct {
	token  trust.Token
	server *peer.Server
	node   *peertest.Node
	images *peertest.Images
	flock  *trust.Flock
	other  *trust.Flock
	addr   netip.AddrPort
}

// newRig starts a node's endpoint.
func newRig(t *testing.T, opts ...peer.Option) *rig {
	t.Helper()
	r := &rig{token: trust.NewToken(), node: &peertest.Node{}, images: &peertest.Images{}}
	r.node.AddImages(r.images)
	r.flock, r.other = member(t, r.token), member(t, r.token)
	r.server, r.addr = start(t, r.flock, r.node, opts...)
	return r
}

// start serves a node on loopback until the test ends.
func start(t *testing.T, f *trust.Flock, n peer.Node, opts ...peer.Option) (*peer.Server, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := peer.NewServer(f, n, opts...)
	serveOn(t, s, ln)
	return s, netip.MustParseAddrPort(ln.Addr().String())
}

// serveOn serves a listener until the test ends.
func serveOn(t *testing.T, s *peer.Server, ln net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
		if err := <-served; err != nil && !errors.Is(err, peer.ErrClosed) {
			t.Errorf("serve: %v", err)
		}
	})
}

// client returns a client of a rig's node, for the other member.
func (r *rig) client(t *testing.T, opts ...peer.ClientOption) *peer.Client {
	t.Helper()
	return clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{r.addr}, opts...)
}

func clientOf(t *testing.T, f *trust.Flock, node string, addrs []netip.AddrPort, opts ...peer.ClientOption) *peer.Client {
	t.Helper()
	c := peer.NewClient(f, node, addrs, opts...)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// container returns a valid container with a number in its id.
func container(n int) peer.Container {
	id := fmt.Sprintf("%064x", n)
	return peer.Container{
		ID: id, ServiceID: strings.Repeat("a", 64), Name: fmt.Sprintf("web-%d", n), State: lifecycle.Running, Ready: true,
		Health: lifecycle.Healthy, Image: "docker.io/library/web:1", ImageDigest: "sha256:" + strings.Repeat("b", 64),
		Runtime:   "containerd",
		Endpoints: []lifecycle.Endpoint{{ContainerPort: 80, Protocol: bunfile.TCP, Host: "::", Port: 8080 + n, HTTP: true}},
	}
}

// rawHTTP returns a round tripper for requests that no Client would send. Their
// connections belong to the other member.
func (r *rig) rawHTTP(t *testing.T) *http.Transport {
	t.Helper()
	var h2 http.Protocols
	h2.SetHTTP2(true)
	tr := &http.Transport{
		Protocols: &h2, DisableCompression: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			raw, err := net.Dial("tcp", r.addr.String())
			if err != nil {
				return nil, err
			}
			return r.other.Client(ctx, raw, r.flock.NodeID(), peer.ALPN)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// connect does a handshake with a rig's node as somebody with a configuration.
func (r *rig) connect(t *testing.T, cfg *tls.Config) (*tls.Conn, error) {
	t.Helper()
	raw, err := net.Dial("tcp", r.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, cfg)
	return c, c.HandshakeContext(t.Context())
}

func listenAt(t *testing.T, addr netip.AddrPort) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
