package peer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/trust"
)

// volumes is a node with one volume, whose Syncer is a function.
type volumes struct {
	*peertest.Node
	send func(ctx context.Context, conn io.ReadWriteCloser) error

	mu    sync.Mutex
	asked []string
}

func (v *volumes) OpenVolume(_ context.Context, id, target string) (func(context.Context, io.ReadWriteCloser) error, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = append(v.asked, target)
	switch {
	case id == container(1).ID && target == "/data":
		return v.send, nil
	case target == "/gone":
		return nil, fmt.Errorf("%w: it is unmounted", peer.ErrRefused)
	case target == "/broken":
		return nil, errors.New("open /secret/path: input/output error")
	}
	return nil, fmt.Errorf("%w: of volume %s", peer.ErrNotFound, target)
}

// withVolumes makes a rig's node one that hands out volumes.
func withVolumes(t *testing.T, f *trust.Flock, send func(context.Context, io.ReadWriteCloser) error, opts ...peer.Option) (*volumes, *peer.Server, netip.AddrPort) {
	t.Helper()
	v := &volumes{Node: &peertest.Node{}, send: send}
	s, addr := start(t, f, v, opts...)
	return v, s, addr
}

// echo sends back what comes.
func echo(_ context.Context, conn io.ReadWriteCloser) error {
	_, err := io.Copy(conn, conn)
	return err
}

// A volume's connection carries bytes in both directions, more than any buffer
// holds, and others are answered beside it.
func TestReceiveVolume(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	_, server, addr := withVolumes(t, f, func(_ context.Context, conn io.ReadWriteCloser) error {
		_, err := io.CopyN(conn, conn, 3<<20)
		return err
	})
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	sent := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	err := c.ReceiveVolume(soon(t), container(1).ID, "/data", func(conn io.ReadWriteCloser) error {
		written := make(chan error, 1)
		go func() {
			_, err := conn.Write(sent)
			written <- err
		}()
		got := make([]byte, len(sent))
		_, err := io.ReadFull(conn, got)
		if err == nil && !bytes.Equal(got, sent) {
			err = errors.New("other bytes came back")
		}
		if _, cerr := c.Containers(soon(t)); cerr != nil {
			t.Errorf("beside it: %v", cerr)
		}
		return errors.Join(err, <-written)
	})
	if err != nil {
		t.Fatal(err)
	}
	mine := errors.New("the disk is full")
	if err := c.ReceiveVolume(soon(t), container(1).ID, "/data", func(io.ReadWriteCloser) error { return mine }); err != mine { //nolint // the very error
		t.Errorf("got %v; want the error of the copy as it is", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if _, conns, _ := server.Counts(); conns != 0 || server.Volumes() != 0 {
		t.Errorf("%d connections and %d volumes are left", conns, server.Volumes())
	}
}

// What is not there, and what only looks like a target, is refused, with words.
func TestVolumeNotThere(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	v, _, addr := withVolumes(t, f, echo)
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	never := func(io.ReadWriteCloser) error { t.Error("it was given"); return nil }
	for _, q := range []struct {
		id, target string
		want       error
		text       string
	}{
		{container(2).ID, "/data", peer.ErrNotFound, "no such container"},
		{container(1).ID, "/other", peer.ErrNotFound, "no such container"},
		{container(1).ID, "/data/", peer.ErrNotFound, ""},
		{container(1).ID, "//data", peer.ErrNotFound, ""},
		{container(1).ID, "/data/.", peer.ErrNotFound, ""},
		{container(1).ID, "/x/../data", peer.ErrInvalid, `".."`},
		{container(1).ID, "../data", peer.ErrInvalid, ""},
		{container(1).ID, "/../etc", peer.ErrInvalid, ""},
		{container(1).ID, "/data\x00", peer.ErrInvalid, ""},
		{container(1).ID, "/data\xff", peer.ErrInvalid, ""},
		{container(1).ID, "", peer.ErrInvalid, ""},
		{container(1).ID, "/" + strings.Repeat("x", 4096), peer.ErrInvalid, ""},
		{"../../etc", "/data", peer.ErrInvalid, "64 hexadecimal"},
		{container(1).ID, "/gone", peer.ErrRefused, "it is unmounted"},
		{container(1).ID, "/broken", peer.ErrRefused, "its log says why"},
	} {
		err := c.ReceiveVolume(soon(t), q.id, q.target, never)
		if !errors.Is(err, q.want) || !strings.Contains(err.Error(), q.text) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.20q %.20q: %v; want %v with %q", q.id, q.target, err, q.want, q.text)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, target := range v.asked {
		if strings.Contains(target, "..") || !strings.HasPrefix(target, "/") {
			t.Errorf("the node was asked for %q", target)
		}
	}
	// A node that has none at all.
	r := newRig(t)
	if err := r.client(t).ReceiveVolume(soon(t), container(1).ID, "/data", never); !errors.Is(err, peer.ErrRefused) || !strings.Contains(err.Error(), "no volumes") {
		t.Errorf("of a node without: %v", err)
	}
}

// dialVolume makes a connection for a volume on which nothing is said yet.
func dialVolume(t *testing.T, f *trust.Flock, node string, addr netip.AddrPort) *tls.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := f.Client(soon(t), raw, node, peer.ALPNVolume)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Requests that no Client would send are answered with words, or not at all.
func TestHostileVolumeRequests(t *testing.T) {
	token := trust.NewToken()
	f, other := member(t, token), member(t, token)
	v, _, addr := withVolumes(t, f, echo)
	id := container(1).ID
	request := func(version byte, size int, rest string) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{version}, uint16(size)), rest...)
	}
	for name, c := range map[string]struct {
		said []byte
		want string
	}{
		"another version": {request(2, 69, id+"/data"), "version 1"},
		"too long":        {append(request(1, 0xffff, id+"/"), bytes.Repeat([]byte("x"), 0xffff)...), "65535 bytes"},
		"empty":           {request(1, 0, ""), "0 bytes"},
		"dots":            {request(1, 64+15, id+"/data/../../etc"), "absolute path"},
		"relative":        {request(1, 64+9, id+"../../etc"), "absolute path"},
		"no id":           {request(1, 64+5, strings.Repeat("/", 64)+"/data"), "hexadecimal"},
		"HTTP":            {[]byte("GET /budgie/v1/ HTTP/1.1\r\n\r\n"), "update"},
		"half a word":     {request(1, 69, id[:10]), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dialVolume(t, other, f.NodeID(), addr)
			if _, err := conn.Write(c.said); err != nil {
				t.Fatal(err)
			}
			if c.want == "" && conn.CloseWrite() != nil {
				t.Fatal("cannot close")
			}
			got, err := io.ReadAll(conn)
			if err != nil || !strings.Contains(string(got), c.want) || c.want == "" && len(got) != 0 || len(got) > 3000 {
				t.Errorf("answered %q, %v; want %q", got, err, c.want)
			}
		})
	}
	t.Cleanup(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.asked) != 0 {
			t.Errorf("the node was asked for %q", v.asked)
		}
	})
}

// S1: without the token there are no volumes, and a token that is rotated ends
// those that are under way, on both sides.
func TestVolumeNeedsTheToken_S1(t *testing.T) {
	f, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	ended := make(chan error, 1)
	_, _, addr := withVolumes(t, f, func(_ context.Context, conn io.ReadWriteCloser) error {
		_, err := conn.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadAll(conn)
		}
		ended <- err
		return err
	})
	never := func(io.ReadWriteCloser) error { t.Error("it was given"); return nil }
	stranger := clientOf(t, member(t, trust.NewToken()), f.NodeID(), []netip.AddrPort{addr})
	if err := stranger.ReceiveVolume(soon(t), container(1).ID, "/data", never); !errors.Is(err, trust.ErrNotTrusted) {
		t.Errorf("with another token: %v", err)
	}
	// One who does not care who answers is refused.
	for name, cfg := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true, NextProtos: []string{peer.ALPNVolume}},
		"another flock":  insecure(member(t, trust.NewToken()).ClientConfig("", peer.ALPNVolume)),
	} {
		r := &rig{flock: f, addr: addr}
		conn, err := r.connect(t, cfg)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if !errors.Is(trust.Explain(err), trust.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	token, err := f.Token()
	if err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
	err = c.ReceiveVolume(soon(t), container(1).ID, "/data", func(conn io.ReadWriteCloser) error {
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return err
		}
		if _, err := f.Rotate(); err != nil {
			return err
		}
		_, err := conn.Read(make([]byte, 1))
		return fmt.Errorf("cut: %w", err)
	})
	if err == nil || !strings.Contains(err.Error(), "cut: ") || soon(t).Err() != nil {
		t.Errorf("the joiner's side: %v", err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the node's side ended as if all had come")
		}
	case <-time.After(patience):
		t.Error("the node's side outlives the token")
	}
	if err := c.ReceiveVolume(soon(t), container(1).ID, "/data", never); !errors.Is(err, trust.ErrNotTrusted) && !errors.Is(err, trust.ErrRefused) {
		t.Errorf("with the old token: %v", err)
	}
}

// insecure returns a configuration of a client that talks to anybody.
func insecure(cfg *tls.Config) *tls.Config {
	cfg.VerifyConnection = nil
	return cfg
}

// A node sends as many volumes at a time as its limits say, in all and to each
// node; when one ends there is room again.
func TestTooManyVolumes(t *testing.T) {
	l := peer.DefaultLimits()
	l.SetVolumes(3, 2)
	token := trust.NewToken()
	f := member(t, token)
	_, _, addr := withVolumes(t, f, echo, peer.WithLimits(l))
	var nodes []*trust.Flock
	for range 3 {
		nodes = append(nodes, member(t, token))
	}
	// hold keeps one open until it is released.
	hold := func(node int) (release func(), err error) {
		c := clientOf(t, nodes[node], f.NodeID(), []netip.AddrPort{addr})
		held, over, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			done <- c.ReceiveVolume(soon(t), container(1).ID, "/data", func(io.ReadWriteCloser) error {
				close(held)
				<-over
				return nil
			})
		}()
		select {
		case <-held:
			return func() { close(over); <-done }, nil
		case err := <-done:
			return nil, err
		}
	}
	var releases []func()
	for i, c := range []struct {
		node int
		ok   bool
	}{{0, true}, {0, true}, {0, false}, {1, true}, {2, false}, {1, false}} {
		release, err := hold(c.node)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, peer.ErrBusy) {
			t.Errorf("%d, for node %d: %v", i, c.node, err)
		}
		if err == nil {
			releases = append(releases, release)
		}
	}
	for _, release := range releases {
		release()
	}
	for {
		release, err := hold(2)
		if err == nil {
			release()
			return
		}
		if !errors.Is(err, peer.ErrBusy) || soon(t).Err() != nil { // the node sees the end in a moment
			t.Fatalf("after they ended: %v", err)
		}
	}
}

// A side that says nothing more is waited for, but not for ever, whether it is to
// read or to write; and one that goes on slowly is not cut off.
func TestVolumeStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, n := trust.NewToken(), newMemNet()
		f := member(t, token)
		ended := make(chan error, 1)
		v := &volumes{Node: &peertest.Node{}}
		v.send = func(_ context.Context, conn io.ReadWriteCloser) error {
			_, err := io.ReadAll(conn)
			ended <- err
			return err
		}
		s := peer.NewServer(f, v)
		serveOn(t, s, n)
		c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{n.at}, peer.WithDial(func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			return n.dialFrom(ctx, somewhere)
		}))
		at := time.Now()
		err := c.ReceiveVolume(t.Context(), container(1).ID, "/data", func(conn io.ReadWriteCloser) error {
			for range 4 {
				time.Sleep(peer.Quiet - time.Second)
				if _, err := conn.Write([]byte("x")); err != nil {
					return err
				}
			}
			return <-ended
		})
		if took := time.Since(at); !errors.Is(err, peer.ErrSilent) || took < 4*peer.Quiet || took > 6*peer.Quiet {
			t.Errorf("the node's side, after %s: %v", took, err)
		}
		// The node says nothing.
		v.send = func(ctx context.Context, _ io.ReadWriteCloser) error { <-ended; return nil }
		err = c.ReceiveVolume(t.Context(), container(1).ID, "/data", func(conn io.ReadWriteCloser) error {
			_, err := conn.Read(make([]byte, 1))
			return err
		})
		ended <- nil
		if !errors.Is(err, peer.ErrSilent) {
			t.Errorf("the joiner's side: %v", err)
		}
		// Nobody reads.
		v.send = func(_ context.Context, conn io.ReadWriteCloser) error {
			_, err := conn.Write(make([]byte, 1<<20))
			ended <- err
			return err
		}
		err = c.ReceiveVolume(t.Context(), container(1).ID, "/data", func(io.ReadWriteCloser) error { return <-ended })
		if !errors.Is(err, peer.ErrSilent) {
			t.Errorf("the node's side: %v", err)
		}
		// A connection without a request does not take that long.
		mute, err := n.dialFrom(t.Context(), somewhere)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := member(t, token).Client(t.Context(), mute, f.NodeID(), peer.ALPNVolume)
		if err != nil {
			t.Fatal(err)
		}
		at = time.Now()
		if _, err := io.ReadAll(conn); err != nil || time.Since(at) > 10*time.Second {
			t.Errorf("a mute one ended after %s: %v", time.Since(at), err)
		}
		_ = conn.Close() // it is over
		synctest.Wait()
		if s.Volumes() != 0 {
			t.Errorf("%d volumes are under way", s.Volumes())
		}
	})
}

// The end of the node, of the context and of the Client end a transfer, each with
// its own error.
func TestVolumeIsCut(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	for name, c := range map[string]struct {
		cut  func(s *peer.Server, c *peer.Client, cancel func())
		want error
	}{
		"the node":    {func(s *peer.Server, _ *peer.Client, _ func()) { _ = s.Close() }, nil},
		"the context": {func(_ *peer.Server, _ *peer.Client, cancel func()) { cancel() }, context.Canceled},
		"the client":  {func(_ *peer.Server, c *peer.Client, _ func()) { _ = c.Close() }, peer.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			_, s, addr := withVolumes(t, f, func(ctx context.Context, conn io.ReadWriteCloser) error {
				_, err := io.ReadAll(conn)
				ended <- err
				return err
			})
			client := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{addr})
			ctx, cancel := context.WithCancel(soon(t))
			defer cancel()
			err := client.ReceiveVolume(ctx, container(1).ID, "/data", func(conn io.ReadWriteCloser) error {
				c.cut(s, client, cancel)
				_, err := conn.Read(make([]byte, 1))
				return err
			})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v; want %v", err, c.want)
			}
			select {
			case <-ended:
			case <-time.After(patience):
				t.Error("the node goes on")
			}
		})
	}
}

// A Budgie that knows nothing of volumes is told apart from one that refuses.
func TestVolumeOfAnOldNode(t *testing.T) {
	token := trust.NewToken()
	f := member(t, token)
	old := f.Listener(listenAt(t, netip.MustParseAddrPort("127.0.0.1:0")), peer.ALPN)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := old.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake() // it fails
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = old.Close(); <-done })
	c := clientOf(t, member(t, token), f.NodeID(), []netip.AddrPort{netip.MustParseAddrPort(old.Addr().String())})
	err := c.ReceiveVolume(soon(t), container(1).ID, "/data", func(io.ReadWriteCloser) error { return nil })
	if !errors.Is(err, peer.ErrRefused) || !strings.Contains(err.Error(), "update it") {
		t.Errorf("got %v", err)
	}
}
