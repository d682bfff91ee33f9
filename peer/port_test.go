package peer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/trust"
)

// ports is a node whose container has a server at port 80.
type ports struct {
	*peertest.Node
	addr string
}

func (p *ports) DialPort(ctx context.Context, id string, port int) (net.Conn, error) {
	var d net.Dialer
	switch {
	case id == container(1).ID && port == 80:
		return d.DialContext(ctx, "tcp", p.addr)
	case port == 81:
		return nil, fmt.Errorf("%w: it starts just now", peer.ErrRefused)
	case port == 82:
		return nil, errors.New("dial /secret: no route")
	}
	return nil, fmt.Errorf("%w: port %d", peer.ErrNotFound, port)
}

// withPorts starts a node that passes on to a server which serve is.
func withPorts(t *testing.T, f *trust.Flock, serve func(*net.TCPConn), opts ...peer.Option) (*peer.Server, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	s, addr := start(t, f, &ports{&peertest.Node{}, ln.Addr().String()}, opts...)
	return s, addr
}

// echoTCP sends back what comes, until the other side has said all.
func echoTCP(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// A port's connection carries bytes in both directions, and either can end alone.
func TestDialPort(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	server, addr := withPorts(t, f, echoTCP)
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	sent := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	conn, err := c.DialPort(soon(t), container(1).ID, 80)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := conn.Write(sent)
		if err == nil {
			err = conn.(interface{ CloseWrite() error }).CloseWrite()
		}
		if err != nil {
			t.Errorf("sending: %v", err)
		}
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if _, conns, _ := server.Counts(); conns != 1 && conns != 0 || server.Ports() != 0 {
		t.Errorf("%d connections and %d ports are left", conns, server.Ports())
	}
}

// A connection to a port lives on without the client that made it, and ends when
// the node does.
func TestDialPortOutlivesClient(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	server, addr := withPorts(t, f, echoTCP)
	c := peer.NewClient(member(t, token), f.NodeID(), []netip.AddrPort{addr})
	conn, err := c.DialPort(soon(t), container(1).ID, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2)
	if _, err := conn.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hi" {
		t.Errorf("got %q, %v", buf, err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if n, err := conn.Read(buf); n != 0 || err == nil {
		t.Errorf("after the node's end: %d, %v", n, err)
	}
	if _, err := c.DialPort(soon(t), container(1).ID, 80); !errors.Is(err, peer.ErrClosed) {
		t.Errorf("a closed client: %v", err)
	}
}

// When the container breaks off, so does the connection.
func TestDialPortBreaks(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	_, addr := withPorts(t, f, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	conn, err := c.DialPort(soon(t), container(1).ID, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %d, %v; want an error that is no end", n, err)
	}
}

// What is not there is refused, with words.
func TestPortNotThere(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	_, addr := withPorts(t, f, echoTCP)
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	for _, q := range []struct {
		id   string
		port int
		want error
		text string
	}{
		{container(2).ID, 80, peer.ErrNotFound, "no such container with such a port"},
		{container(1).ID, 8080, peer.ErrNotFound, "no such container with such a port"},
		{container(1).ID, 81, peer.ErrRefused, "it starts just now"},
		{container(1).ID, 82, peer.ErrRefused, "its log says why"},
		{container(1).ID, 0, peer.ErrInvalid, "from 1 to 65535"},
		{container(1).ID, 65536, peer.ErrInvalid, "from 1 to 65535"},
		{container(1).ID, -80, peer.ErrInvalid, "from 1 to 65535"},
		{"../../etc", 80, peer.ErrInvalid, "64 hexadecimal"},
	} {
		_, err := c.DialPort(soon(t), q.id, q.port)
		if !errors.Is(err, q.want) || !contains(err, q.text) || contains(err, "secret") {
			t.Errorf("%.20q %d: %v; want %v with %q", q.id, q.port, err, q.want, q.text)
		}
	}
	r := newRig(t)
	if _, err := r.client(t).DialPort(soon(t), container(1).ID, 80); !errors.Is(err, peer.ErrRefused) || !contains(err, "no connections") {
		t.Errorf("of a node without: %v", err)
	}
}

func contains(err error, text string) bool {
	return err != nil && bytes.Contains([]byte(err.Error()), []byte(text))
}

// S1: without the token no port is reached, and a token that is rotated ends the
// connections that were made by it.
func TestPortNeedsTheToken_S1(t *testing.T) {
	f, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	_, addr := withPorts(t, f, echoTCP)
	stranger := clientOf(t, member(t, trust.NewToken()), f.NodeID(), []netip.AddrPort{addr})
	if _, err := stranger.DialPort(soon(t), container(1).ID, 80); !errors.Is(err, trust.ErrNotTrusted) {
		t.Errorf("with another token: %v", err)
	}
	token, err := f.Token()
	if err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	conn, err := c.DialPort(soon(t), container(1).ID, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := f.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("after the rotation: %d, %v", n, err)
	}
}

// A node passes on as many connections as its limits say; those beyond are told.
func TestPortLimits(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	l := peer.DefaultLimits()
	l.SetPorts(3, 2)
	server, addr := withPorts(t, f, echoTCP, peer.WithLimits(l))
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	var conns []net.Conn
	for range 2 {
		conn, err := c.DialPort(soon(t), container(1).ID, 80)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if _, err := c.DialPort(soon(t), container(1).ID, 80); !errors.Is(err, peer.ErrBusy) {
		t.Errorf("a third one: %v", err)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	for server.Ports() > 0 {
		<-time.After(time.Millisecond)
	}
	conn, err := c.DialPort(soon(t), container(1).ID, 80)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// Where the other node breaks off, by a reset or without a farewell, the container does
// not take what it has got for everything.
func TestDialPortCutReachesContainer(t *testing.T) {
	for name, linger := range map[string]int{"reset": 0, "end without a farewell": -1} {
		t.Run(name, func(t *testing.T) {
			token := trust.NewToken()
			f := member(t, token)
			got, end := make(chan struct{}), make(chan error, 1)
			_, addr := withPorts(t, f, func(c *net.TCPConn) {
				_, err := io.ReadFull(c, make([]byte, 4))
				close(got)
				if err == nil {
					_, err = io.Copy(io.Discard, c)
				}
				end <- err
			})
			c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
			conn, err := c.DialPort(soon(t), container(1).ID, 80)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("half")); err != nil {
				t.Fatal(err)
			}
			<-got
			raw := conn
			for on, ok := raw.(interface{ NetConn() net.Conn }); ok; on, ok = raw.(interface{ NetConn() net.Conn }) {
				raw = on.NetConn()
			}
			if err := raw.(*net.TCPConn).SetLinger(linger); err != nil {
				t.Fatal(err)
			}
			if err := raw.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-end; err == nil {
				t.Error("the container read a regular end")
			}
		})
	}
}
