package behaviourtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// changeCases are about backends that come and go, and the end of the proxy.
func changeCases() []Case {
	const g = "changes"
	return []Case{
		{g, "backend added", "a backend that is added is asked soon", over1(), added},
		{g, "backend removed", "a request under way at a backend that is removed ends well, and no other goes there", all(), removed},
		{g, "change under load", "no request fails while backends are added and removed", all(), changeUnderLoad},
		{g, "WebSocket survives a change", "a connection to a backend that stays is not touched when others come and go (B5)", over1(), socketSurvives},
		{g, "drain, request", "a request under way when the proxy is stopped is answered, and newcomers are not accepted", all(), drainRequest},
		{g, "drain, idle connection", "connections kept alive do not keep a stopped proxy from ending", all(), drainIdle},
		{g, "drain, WebSocket", "a stopped proxy waits for WebSockets, up to the deadline (B6)", over1(), drainSocket},
		{g, "drain under load", "a client that heeds what it is told loses no request when the proxy is stopped", all(), drainUnderLoad},
	}
}

func added(t *T) {
	a, b := t.backend("a", says("a")), t.backend("b", says("b"))
	p := t.proxy(a.addr)
	t.get(p, "/")
	t.update(p, a.addr, b.addr)
	if !until(3*time.Second, func() bool { return t.get(p, "/").from() == "b" }) {
		t.errorf("it was not asked within 3 s")
	}
}

func removed(t *T) {
	arrived, goOn := make(chan struct{}, 1), make(chan struct{})
	a := t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-goOn:
			io.WriteString(w, "at last")
		case <-r.Context().Done():
		}
	})
	b := t.backend("b", says("b"))
	p := t.proxy(a.addr)
	req := t.newRequest(p, "POST", "/", strings.NewReader("body"))
	client := t.client()
	result := make(chan string, 1)
	go func() {
		got, err := tryOn(client, req)
		result <- fmt.Sprint(got.body, " ", err)
	}()
	wait(t, "the request at the backend", arrived)
	t.update(p, b.addr)
	if !until(3*time.Second, func() bool { return t.inARow(p, "b", 5) == 5 }) {
		t.errorf("the removed one is still asked after 3 s")
	}
	close(goOn)
	if got := wait(t, "the end of the request", result); got != "at last <nil>" {
		t.errorf("got %s", got)
	}
}

// load is clients that ask all the time.
type load struct {
	wg     sync.WaitGroup
	stop   chan struct{}
	served atomic.Int64
}

// startLoad starts clients, of which each has its connections, and tells fail of
// what goes wrong; that says whether the client goes on.
func (t *T) startLoad(p Proxy, clients int, fail func(reply, error) bool) *load {
	l := &load{stop: make(chan struct{})}
	for range clients {
		client := t.client()
		req := t.newRequest(p, "GET", "/", nil)
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				got, err := tryOn(client, req.Clone(req.Context()))
				if err == nil && got.StatusCode == 200 {
					l.served.Add(1)
				} else if !fail(got, err) {
					return
				}
			}
		})
	}
	return l
}

// more waits until n more requests were served.
func (l *load) more(n int64) bool {
	from := l.served.Load()
	return until(patience, func() bool { return l.served.Load() >= from+n })
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
}

func changeUnderLoad(t *T) {
	var addrs []string
	for i := range 4 {
		addrs = append(addrs, t.backend(fmt.Sprint(i), says("ok")).addr)
	}
	p := t.proxy(addrs[:2]...)
	l := t.startLoad(p, 4, func(got reply, err error) bool {
		t.errorf("a request failed: %v, %v", got, err)
		return false
	})
	defer l.end()
	for i := range 6 {
		if !l.more(20) {
			break
		}
		t.update(p, addrs[i%4], addrs[(i+1)%4])
	}
	l.more(20)
}

func socketSurvives(t *T) {
	a := t.raw(switching("", echoing))
	b, c := t.backend("b", says("b")), t.backend("c", says("c"))
	p := t.proxy(a)
	ws := t.upgrade(p, "websocket")
	for _, set := range [][]string{{a, b.addr}, {a, b.addr, c.addr}, {a, c.addr}} {
		t.update(p, set...)
		want := "b"
		if set[len(set)-1] == c.addr {
			want = "c"
		}
		if !until(3*time.Second, func() bool {
			got, err := t.within(time.Second, t.newRequest(p, "GET", "/", nil))
			return err == nil && got.from() == want
		}) {
			t.fatalf("the change took no effect")
		}
		if err := ws.echoed([]byte("still there?")); err != nil {
			t.fatalf("after a change: %v", err)
		}
	}
}

// shutdown begins to stop the proxy. What it returns is closed when that is over.
func (t *T) shutdown(p Proxy, d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), d)
		defer cancel()
		p.Shutdown(ctx)
	}()
	t.cleanup(func() { p.Stop(); <-done })
	return done
}

// refuses waits until nobody is let in any more.
func (t *T) refuses(p Proxy) {
	if !until(5*time.Second, func() bool {
		c, err := net.DialTimeout("tcp", p.Addr(), time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	}) {
		t.errorf("newcomers are still let in")
	}
}

func drainRequest(t *T) {
	arrived, goOn := make(chan struct{}, 1), make(chan struct{})
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-goOn:
			io.WriteString(w, "at last")
		case <-r.Context().Done():
		}
	}).addr)
	req := t.newRequest(p, "POST", "/", strings.NewReader("body"))
	client := t.client()
	result := make(chan string, 1)
	go func() {
		got, err := tryOn(client, req)
		result <- fmt.Sprint(got.body, " ", err)
	}()
	wait(t, "the request at the backend", arrived)
	done := t.shutdown(p, 2*patience)
	t.refuses(p)
	close(goOn)
	if got := wait(t, "the end of the request", result); got != "at last <nil>" {
		t.errorf("got %s", got)
	}
	wait(t, "the end of the proxy", done)
}

func drainIdle(t *T) {
	p := t.proxy(t.backend("a", says("a")).addr)
	if got, err := tryOn(t.client(), t.newRequest(p, "GET", "/", nil)); err != nil || got.StatusCode != 200 {
		t.fatalf("got %v, %v", got, err)
	}
	began := time.Now()
	wait(t, "the end of the proxy", t.shutdown(p, 2*patience))
	if took := time.Since(began); took > 5*time.Second {
		t.errorf("it took %v", took.Round(100*time.Millisecond))
	}
}

func drainSocket(t *T) {
	p := t.proxy(t.raw(switching("", echoing)))
	ws := t.upgrade(p, "websocket")
	done := t.shutdown(p, 3*time.Second)
	t.refuses(p)
	if err := ws.echoed([]byte("still there?")); err != nil {
		t.errorf("during the drain: %v", err)
	}
	select {
	case <-done:
		t.errorf("it did not wait")
	default:
	}
	wait(t, "the end of the proxy at the deadline", done)
	if !ws.ends(2 * time.Second) {
		t.errorf("the connection outlives the proxy")
	}
}

func drainUnderLoad(t *T) {
	p := t.proxy(t.backend("a", says("a")).addr)
	l := t.startLoad(p, 4, func(got reply, err error) bool {
		if err != nil && isRefused(err) {
			return false // that is how one learns that it is gone
		}
		t.errorf("a request failed: %v, %v", got, err)
		return false
	})
	if !l.more(50) {
		t.errorf("nothing is served")
	}
	done := t.shutdown(p, 2*patience)
	wait(t, "the end of the proxy", done)
	l.end()
}
