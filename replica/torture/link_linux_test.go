package torture

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// link is the network between two sides, and what is wrong with it.
type link struct {
	ln net.Listener
	wg sync.WaitGroup

	mu sync.Mutex
	// to is where the sender listens, empty while there is none.
	to    string
	conns map[net.Conn]bool
	// rate is how many bytes a second pass in each direction, 0 for all, and
	// stuck is closed when they pass again, nil while they do.
	rate  int
	stuck chan struct{}
	// left is how many bytes pass before the link is cut, if cutting.
	left    int
	cutting bool
	ctx     context.Context
}

// newLink returns a link that ends with the test.
func newLink(t *testing.T) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{ln: ln, conns: make(map[net.Conn]bool), ctx: ctx}
	l.wg.Go(l.serve)
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		l.cut()
		l.wg.Wait()
	})
	return l
}

func (l *link) serve() {
	for {
		near, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		to := l.to
		l.mu.Unlock()
		far, err := net.Dial("tcp", to)
		if err != nil {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		l.conns[near], l.conns[far] = true, true
		l.mu.Unlock()
		l.wg.Go(func() { l.pump(near, far) })
		l.wg.Go(func() { l.pump(far, near) })
	}
}

// pump passes on what one side says.
func (l *link) pump(from, to net.Conn) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, c := range []net.Conn{from, to} {
			delete(l.conns, c)
			_ = c.Close()
		}
	}()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || !l.pass(n) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// pass waits until bytes may pass. It is false where the link is cut.
func (l *link) pass(n int) bool {
	l.mu.Lock()
	rate, stuck := l.rate, l.stuck
	cut := false
	if l.cutting {
		l.left -= n
		cut = l.left < 0
		l.cutting = !cut
	}
	l.mu.Unlock()
	if cut {
		l.cut()
		return false
	}
	if stuck != nil {
		select {
		case <-stuck:
		case <-l.ctx.Done():
			return false
		}
	}
	return rate == 0 || wait(l.ctx, time.Duration(n)*time.Second/time.Duration(rate))
}

// cut closes all connections.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

// cutAfter cuts the link when so many bytes have passed.
func (l *link) cutAfter(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.cutting = n, true
}

func (l *link) limit(rate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// hold lets nothing through until release.
func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stuck == nil {
		l.stuck = make(chan struct{})
	}
}

func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stuck != nil {
		close(l.stuck)
		l.stuck = nil
	}
}

// heal lets everything through.
func (l *link) heal() {
	l.release()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate, l.cutting = 0, false
}

func (l *link) sendTo(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = addr
}

// wait waits for d. It is false where ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
