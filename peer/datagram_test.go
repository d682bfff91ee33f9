package peer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/trust"
)

// datagrams is a node whose container has a server at UDP port 53.
type datagrams struct {
	*peertest.Node
	addr string
}

func (d *datagrams) DialDatagrams(ctx context.Context, id string, port int) (net.Conn, error) {
	if id != container(1).ID || port != 53 {
		return nil, fmt.Errorf("%w: port %d", peer.ErrNotFound, port)
	}
	return new(net.Dialer).DialContext(ctx, "udp", d.addr)
}

// withDatagrams starts a node in front of a socket, and connects to it.
func withDatagrams(t *testing.T, opts ...peer.Option) (net.PacketConn, *peer.Server, net.Conn) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	token := trust.NewToken()
	f := member(t, token)
	s, addr := start(t, f, &datagrams{&peertest.Node{}, server.LocalAddr().String()}, opts...)
	conn, err := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr}).DialDatagrams(soon(t), container(1).ID, 53)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return server, s, conn
}

// Datagrams come as they were sent, each by itself, whatever their length.
func TestDialDatagrams(t *testing.T) {
	server, _, conn := withDatagrams(t)
	buf := make([]byte, 1<<16)
	for _, size := range []int{5, 0, 1, 1200, 9000, 65507, 3} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		if n, err := conn.Write(want); err != nil || n != size {
			t.Fatalf("%d bytes: wrote %d, %v", size, n, err)
		}
		_ = server.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, from, err := server.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("%d bytes: the container gets %d, %v", size, n, err)
		}
		if _, err := server.WriteTo(append(want[:min(size, 65000)], "!"...), from); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := conn.Read(buf); err != nil || n != min(size, 65000)+1 || buf[n-1] != '!' {
			t.Fatalf("%d bytes: the answer has %d, %v", size, n, err)
		}
	}
	// After a timeout nothing is lost.
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := conn.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("without an answer: %v", err)
	}
	if _, err := conn.Write(make([]byte, 1<<16)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("a datagram that is too long: %v", err)
	}
	if _, err := conn.Write([]byte("on")); err != nil {
		t.Fatal(err)
	}
	if n, _, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != "on" {
		t.Errorf("after that %q, %v", buf[:n], err)
	}
}

// The connection ends when the container's port is gone, and when it is not used.
func TestDialDatagramsEnds(t *testing.T) {
	server, s, conn := withDatagrams(t)
	_ = server.Close()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 10)
	for range 1000 { // the system tells with the next use
		if _, err := conn.Write([]byte("x")); err != nil {
			break
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := conn.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	for s.Datagrams() > 0 {
		<-time.After(time.Millisecond)
	}

	l := peer.DefaultLimits()
	l.SetMute(50 * time.Millisecond)
	_, s, conn = withDatagrams(t, peer.WithLimits(l))
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(buf); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that nobody uses: %v", err)
	}
	for s.Datagrams() > 0 {
		<-time.After(time.Millisecond)
	}
}

// What cannot be reached, and who may not.
func TestDialDatagramsRefuses(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	_, addr := start(t, f, &datagrams{&peertest.Node{}, "127.0.0.1:1"})
	at := func(token trust.Token, f *trust.Flock, addr netip.AddrPort) *peer.Client {
		return clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	}
	c := at(token, f, addr)
	if _, err := c.DialDatagrams(soon(t), container(1).ID, 80); !errors.Is(err, peer.ErrNotFound) {
		t.Errorf("a port that is not there: %v", err)
	}
	if _, err := c.DialDatagrams(soon(t), container(1).ID, 1<<16); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("no port: %v", err)
	}
	if _, err := at(trust.NewToken(), f, addr).DialDatagrams(soon(t), container(1).ID, 53); !errors.Is(err, trust.ErrNotTrusted) {
		t.Errorf("a stranger: %v", err)
	}
	other := member(t, token)
	_, addr = start(t, other, &peertest.Node{})
	if _, err := at(token, other, addr).DialDatagrams(soon(t), container(1).ID, 53); !errors.Is(err, peer.ErrRefused) || !contains(err, "no datagrams") {
		t.Errorf("a node that passes on none: %v", err)
	}
}
