package balance_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// lateListener is the listener of a busy machine: once there is a deadline, it
// has passed before the first Accepts look at the backlog.
type lateListener struct {
	gatedListener
	late    atomic.Int32 // Accepts still to come too late
	bounded atomic.Bool  // a deadline was set
}

func (l *lateListener) SetDeadline(t time.Time) error {
	l.bounded.Store(true)
	return l.gatedListener.SetDeadline(t)
}

func (l *lateListener) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.waiting) })
	<-l.gate
	if l.bounded.Load() && l.late.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	return l.TCPListener.Accept()
}

// A deadline that passes says nothing of the backlog: those who wait there are
// served, however late the machine is.
func TestShutdownServesBacklogOnBusyMachine(t *testing.T) {
	ln := &lateListener{gatedListener: gatedListener{
		TCPListener: listen(t).(*net.TCPListener), waiting: make(chan struct{}), gate: make(chan struct{}),
	}}
	ln.late.Store(20)
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: ln})
	f.set(httpBackend(t, says("served")))
	<-ln.waiting
	var clients []*net.TCPConn
	for range 5 {
		c := dial(t, f)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
		clients = append(clients, c)
	}
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	eventually(t, "the drain has begun", ln.bounded.Load)
	close(ln.gate)
	for i, c := range clients {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "served" {
			t.Errorf("connection %d: %q, %v", i, body, err)
		}
	}
	if err := receive(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// No connection that the kernel accepted is reset, though clients knock on and
// on: requests on a new connection each are served or refused. There remains a
// moment in which one can be lost, and a machine may pause just then.
func TestShutdownResetsNobody(t *testing.T) {
	backend := httpBackend(t, says("served"))
	for _, multipath := range []bool{false, true, false, true} {
		var lc net.ListenConfig
		lc.SetMultipathTCP(multipath) // on its sockets newcomers cannot be held off
		ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: ln})
		f.set(backend)
		var served, lost atomic.Int64
		var clients sync.WaitGroup
		for range 64 {
			clients.Go(func() {
				for {
					c, err := net.DialTimeout("tcp", f.Addr().String(), 100*time.Millisecond)
					if err != nil {
						return
					}
					c.SetDeadline(time.Now().Add(patience))
					io.WriteString(c, "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil || resp.StatusCode != http.StatusOK {
						lost.Add(1)
					} else {
						served.Add(1)
					}
					c.Close()
				}
			})
		}
		eventually(t, "some load", func() bool { return served.Load() > 500 })
		if err := f.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		clients.Wait()
		if n := lost.Load(); n > 2 {
			t.Errorf("multipath %v: %d requests lost, %d served", multipath, n, served.Load())
		}
	}
}

// Who else has the listening socket, as after a restart that hands it on, goes
// on serving.
func TestShutdownLeavesSharedSocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("listening sockets cannot be duplicated here")
	}
	ln := listen(t).(*net.TCPListener)
	file, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	other, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: ln})
	if err := f.Shutdown(t.Context()); err != nil {
		t.Fatalf("Shutdown = %v", err)
	}
	accepted := make(chan error, 1)
	go func() {
		c, err := other.Accept()
		if err == nil {
			c.Close()
		}
		accepted <- err
	}()
	c, err := net.DialTimeout("tcp", ln.Addr().String(), patience)
	if err != nil {
		other.Close()
		t.Fatalf("the socket takes no connections any more: %v", err)
	}
	c.Close()
	if err := receive(t, accepted); err != nil {
		t.Error(err)
	}
}
