package balance_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
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
