package balance_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

func echoBackend(t *testing.T) string {
	return rawBackend(t, func(_ int, c *net.TCPConn) {
		io.Copy(c, c)
		c.CloseWrite()
	})
}

// Both directions carry as much as they like at the same time, and each has an
// end of its own.
func TestTCPBothWays(t *testing.T) {
	const size = 8 << 20
	up, down := make([]byte, size), make([]byte, size+1)
	rand.NewChaCha8([32]byte{1}).Read(up)
	rand.NewChaCha8([32]byte{2}).Read(down)
	got := make(chan [32]byte, 1)
	f := openTCP(t)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		var wg sync.WaitGroup
		wg.Go(func() {
			b, _ := io.ReadAll(c)
			got <- sha256.Sum256(b)
		})
		io.Copy(c, bytes.NewReader(down))
		c.CloseWrite()
		wg.Wait()
	}))
	c := dial(t, f)
	go func() {
		c.Write(up)
		c.CloseWrite()
	}()
	b, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(b, down) {
		t.Errorf("got %d bytes, %v; want the %d sent", len(b), err, len(down))
	}
	if receive(t, got) != sha256.Sum256(up) {
		t.Error("the backend got something else than what was sent")
	}
	eventually(t, "the end", func() bool { s := f.Status()[0]; return s.Active == 0 && s.Requests == 1 && s.Failures == 0 })
}

// The end of either side leaves the other direction open.
func TestTCPHalfClose(t *testing.T) {
	f := openTCP(t)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		io.WriteString(c, "banner")
		c.CloseWrite()
		b, _ := io.ReadAll(c)
		if string(b) != "last words" {
			c.SetLinger(0)
		}
	}))
	c := dial(t, f)
	if b, err := io.ReadAll(c); err != nil || string(b) != "banner" {
		t.Fatalf("got %q, %v", b, err)
	}
	io.WriteString(c, "last words")
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	eventually(t, "the end", func() bool { return f.Status()[0].Active == 0 })
	if s := f.Status()[0]; s.Failures != 0 || s.Requests != 1 {
		t.Errorf("status = %+v", s)
	}
}

// A peer that goes silent after the other side's end does not hold a connection.
func TestTCPHalfOpenEnds(t *testing.T) {
	f := openTCP(t, balance.WithHalfOpen(50*time.Millisecond))
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		io.Copy(io.Discard, c)
		// It talks for a while, which counts, and then falls silent for good.
		for range 4 {
			io.WriteString(c, "still here;")
			time.Sleep(20 * time.Millisecond)
		}
		<-t.Context().Done()
	}))
	c := dial(t, f)
	c.CloseWrite()
	b, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) || strings.Count(string(b), "still here;") != 4 {
		t.Errorf("got %q, %v; want all that was said and a reset", b, err)
	}
	eventually(t, "the end", func() bool { return f.Status()[0].Active == 0 })
}

func TestTCPDeadBackendIsSkipped(t *testing.T) {
	f := openTCP(t)
	f.set(deadAddr(t), echoBackend(t), deadAddr(t))
	for range 6 {
		c := dial(t, f)
		io.WriteString(c, "hello")
		c.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
			t.Errorf("got %q, %v", b, err)
		}
	}
	eventually(t, "the counts", func() bool { return f.Status()[1].Requests == 6 })
	s := f.Status()
	if s[0].Healthy || s[2].Healthy || s[0].Failures != 1 || s[0].Requests != 0 || s[0].LastError == nil {
		t.Errorf("status = %+v", s)
	}
}

// A reset passes as a reset, in both directions.
func TestTCPReset(t *testing.T) {
	t.Run("by the backend", func(t *testing.T) {
		f := openTCP(t)
		f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
			io.ReadFull(c, make([]byte, 1))
			c.SetLinger(0)
		}))
		for i := range 3 {
			if !f.Status()[0].Healthy {
				t.Fatalf("out of rotation after %d failures", i)
			}
			c := dial(t, f)
			io.WriteString(c, "x")
			if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v; want a reset", err)
			}
			eventually(t, "the count", func() bool { s := f.Status()[0]; return s.Failures == uint64(i+1) && s.Active == 0 })
		}
		if s := f.Status()[0]; s.Healthy || s.LastError == nil {
			t.Errorf("status = %+v; want it out after three", s)
		}
	})
	t.Run("by the client", func(t *testing.T) {
		end := make(chan error, 1)
		f := openTCP(t)
		f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
			io.ReadFull(c, make([]byte, 1))
			io.WriteString(c, "x")
			_, err := io.Copy(io.Discard, c)
			end <- err
		}))
		c := dial(t, f)
		io.WriteString(c, "x")
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0)
		c.Close()
		if err := receive(t, end); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the backend read %v; want a reset", err)
		}
		eventually(t, "the end", func() bool { return f.Status()[0].Active == 0 })
		if s := f.Status()[0]; s.Failures != 0 || s.Requests != 1 {
			t.Errorf("status = %+v; a client's reset is no failure", s)
		}
	})
}

// A shutdown lets connections end by themselves, and loses none that was
// accepted.
func TestTCPShutdown(t *testing.T) {
	ln := &countingListener{TCPListener: listen(t).(*net.TCPListener), accepted: map[string]bool{}}
	f := open(t, balance.Config{Mode: bunfile.ModeTCP, Listener: ln})
	f.set(echoBackend(t))
	lost := make(chan error, 8)
	for range cap(lost) {
		go func() {
			for {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					lost <- nil
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				io.WriteString(c, "hello")
				c.(*net.TCPConn).CloseWrite()
				b, err := io.ReadAll(c)
				c.Close()
				if (err != nil || string(b) != "hello") && ln.has(c.LocalAddr().String()) {
					lost <- err
					return
				}
			}
		}()
	}
	long := dial(t, f)
	eventually(t, "some load", func() bool { return f.Status()[0].Requests > 50 })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(ctx) }()
	for range cap(lost) {
		if err := receive(t, lost); err != nil {
			t.Errorf("lost a connection: %v", err)
		}
	}
	io.WriteString(long, "x")
	if _, err := io.ReadFull(long, make([]byte, 1)); err != nil {
		t.Errorf("during the drain: %v", err)
	}
	cancel()
	if err := receive(t, done); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v", err)
	}
	if _, err := io.ReadAll(long); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the cut: %v; want a reset, not an end that looks regular", err)
	}
}

func TestTCPLeastConnections(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeTCP, Algorithm: bunfile.LeastConnections})
	f.set(echoBackend(t), echoBackend(t), echoBackend(t))
	for i := range 9 {
		dial(t, f)
		eventually(t, "the connection is counted", func() bool {
			sum := 0
			for _, s := range f.Status() {
				sum += s.Active
			}
			return sum == i+1
		})
	}
	for _, s := range f.Status() {
		if s.Active != 3 {
			t.Errorf("%s has %d of 9 connections; want 3", s.ID, s.Active)
		}
	}
}

// A client that goes away before its answer is no failure of the backend, be it that this
// is noticed only when the answer is written.
func TestTCPClientsEjectNobody(t *testing.T) {
	f := openTCP(t)
	asked, left := make(chan struct{}), make(chan struct{})
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		io.Copy(io.Discard, c) // the request, up to the end of the client's side
		asked <- struct{}{}
		<-left
		io.WriteString(c, "answer")
		io.Copy(io.Discard, c)
	}))
	for range 4 {
		c := dial(t, f)
		io.WriteString(c, "request")
		c.CloseWrite()
		receive(t, asked)
		c.SetLinger(0)
		c.Close()
		left <- struct{}{}
		eventually(t, "the end", func() bool { return f.Status()[0].Active == 0 })
	}
	if s := f.Status()[0]; !s.Healthy || s.Failures > 0 {
		t.Errorf("clients that reset their connections took the backend out: %+v", s)
	}
}

// A reset does not become the regular end of a stream on the way through TLS, by which
// the other side would take half of it for everything.
func TestTCPResetThroughTLS(t *testing.T) {
	server, client := certified(t)
	got, end := make(chan struct{}), make(chan error, 1)
	addr := rawBackend(t, func(_ int, c *net.TCPConn) {
		s := tls.Server(c, server) // as the endpoint of another node
		_, err := io.ReadFull(s, make([]byte, 4))
		close(got)
		if err == nil {
			_, err = io.Copy(io.Discard, s)
		}
		end <- err
	})
	f := open(t, balance.Config{Mode: bunfile.ModeTCP, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		return (&tls.Dialer{Config: client}).DialContext(ctx, "tcp", addr)
	}})
	f.set(addr)
	c := dial(t, f)
	io.WriteString(c, "half")
	receive(t, got)
	c.SetLinger(0)
	c.Close()
	if err := receive(t, end); err == nil {
		t.Error("the backend read a regular end")
	}
}
