package behaviourtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// retryCases are about requests that a backend does not answer.
func retryCases() []Case {
	const g = "no lost requests"
	return []Case{
		{g, "refused, GET", "a request whose backend refuses the connection is served by another", all(), refusedElsewhere("GET", "")},
		{g, "refused, POST", "a POST whose backend refuses the connection is served by another", all(), refusedElsewhere("POST", "body")},
		{g, "closed kept-alive connection, GET", "a request that meets a connection just closed is made again, also where there is one backend alone (B2)", all(), keepAliveRace("GET", "")},
		{g, "closed kept-alive connection, PUT", "a body that is at hand is sent again (B2)", all(), keepAliveRace("PUT", "body")},
		{g, "closed kept-alive connection, POST", "a POST that was sent is not sent again (B3)", all(), keepAlivePost},
		{g, "broken off, GET", "a GET that a backend breaks off is served by another", all(), brokenElsewhere("GET", "", "", true)},
		{g, "broken off, PUT", "a PUT that a backend breaks off is served by another (RFC 9110 section 9.2.2)", all(), brokenElsewhere("PUT", "body", "", true)},
		{g, "broken off, POST", "a POST that a backend breaks off is executed once, and answered with 502", all(), brokenElsewhere("POST", "body", "", false)},
		{g, "broken off, POST with a key", "a key that says a POST may be repeated is the backend's to know: it is executed once", all(), brokenElsewhere("POST", "body", "Idempotency-Key", false)},
		{g, "broken off, PATCH", "a PATCH that a backend breaks off is executed once, and answered with 502", all(), brokenElsewhere("PATCH", "body", "", false)},
		{g, "reset, GET", "a GET whose backend resets the connection is served by another", all(), answeredElsewhere(resets, "GET")},
		{g, "rubbish, GET", "a GET answered with what is not HTTP is served by another", all(), answeredElsewhere(answering("SSH-2.0-OpenSSH_9.9\r\n\r\n", true), "GET")},
		{g, "half a header, GET", "a GET answered with half a header is served by another", all(), answeredElsewhere(answering("HTTP/1.1 200 OK\r\nContent-", true), "GET")},
		{g, "POSTs to backends that break off", "of hundreds of POSTs to backends that break off at random none arrives twice (B3)", over1(), postsOnce},
	}
}

func refusedElsewhere(method, body string) func(*T) {
	return func(t *T) {
		p := t.proxy(t.dead(), t.backend("b", echoes).addr, t.dead())
		for range 6 {
			got := t.do(t.newRequest(p, method, "/", strings.NewReader(body)))
			if got.StatusCode != 200 || got.body != body {
				t.fatalf("got %d %q", got.StatusCode, got.body)
			}
		}
	}
}

// closesKeptAlive is a backend that answers the first request of each connection,
// promises to stay, and closes when the second has arrived.
func closesKeptAlive(dropped *atomic.Int64) func(int, *net.TCPConn) {
	return func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, _, err := readRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if _, _, err := readRequest(r); err == nil {
			dropped.Add(1)
		}
	}
}

func keepAliveRace(method, body string) func(*T) {
	return func(t *T) {
		var dropped atomic.Int64
		p := t.proxy(t.raw(closesKeptAlive(&dropped))) // the only one
		for i := range 4 {
			var content io.Reader
			if body != "" {
				content = strings.NewReader(body)
			}
			got, err := t.try(t.newRequest(p, method, "/", content))
			if err != nil || got.StatusCode != 200 || got.body != "ok" {
				t.fatalf("request %d: %v, %v (the backend dropped %d)", i+1, got, err, dropped.Load())
			}
		}
		if dropped.Load() == 0 {
			t.skipf("it uses no connection twice")
		}
	}
}

func keepAlivePost(t *T) {
	var dropped, posts atomic.Int64
	p := t.proxy(t.raw(func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		for i := 0; ; i++ {
			req, _, err := readRequest(r)
			if err != nil {
				return
			}
			if req.Method == "POST" {
				posts.Add(1)
			}
			if i == 1 {
				dropped.Add(1)
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	t.get(p, "/")
	got, err := t.try(t.newRequest(p, "POST", "/", strings.NewReader("body")))
	if dropped.Load() == 0 && err == nil && got.StatusCode == 200 {
		if posts.Load() != 1 {
			t.errorf("it was executed %d times", posts.Load())
		}
		return // on a connection of its own
	}
	if err != nil || got.StatusCode != 502 {
		t.errorf("got %v, %v", got, err)
	}
	if posts.Load() != 1 {
		t.errorf("it was executed %d times", posts.Load())
	}
}

// brokenElsewhere has two backends of which each takes a request and closes, until
// one of them has got it. The second attempt is served.
func brokenElsewhere(method, body, field string, again bool) func(*T) {
	return func(t *T) {
		var received atomic.Int64
		flaky := func(_ int, c *net.TCPConn) {
			if _, _, err := readRequest(bufio.NewReader(c)); err != nil {
				return
			}
			if received.Add(1) > 1 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			}
		}
		p := t.proxy(t.raw(flaky), t.raw(flaky))
		var content io.Reader
		if body != "" {
			content = strings.NewReader(body)
		}
		req := t.newRequest(p, method, "/", content)
		if field != "" {
			req.Header.Set(field, `"8e03978e-40d5-43e8-bc93-6894a57f9324"`)
		}
		got := t.do(req)
		n := received.Load()
		if again && (got.StatusCode != 200 || n != 2) {
			t.errorf("got %d; it was received %d times", got.StatusCode, n)
		}
		if !again && (got.StatusCode != 502 || n != 1) {
			t.errorf("got %d; it was received %d times", got.StatusCode, n)
		}
	}
}

func resets(_ int, c *net.TCPConn) {
	if _, _, err := readRequest(bufio.NewReader(c)); err == nil {
		c.SetLinger(0)
	}
}

func answeredElsewhere(bad func(int, *net.TCPConn), method string) func(*T) {
	return func(t *T) {
		var asked atomic.Int64
		p := t.proxy(t.raw(func(n int, c *net.TCPConn) {
			asked.Add(1)
			bad(n, c)
		}), t.backend("b", says("b")).addr)
		for range 4 {
			if got := t.do(t.newRequest(p, method, "/", nil)); got.StatusCode != 200 || got.from() != "b" {
				t.fatalf("got %d %q", got.StatusCode, got.body)
			}
		}
		if asked.Load() == 0 {
			t.errorf("the bad one was never asked: nothing was tested")
		}
	}
}

func postsOnce(t *T) {
	var mu sync.Mutex
	times := map[string]int{}
	flaky := func(n int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		for i := 0; ; i++ {
			req, _, err := readRequest(r)
			if err != nil {
				return
			}
			mu.Lock()
			times[req.Header.Get("Id")]++
			mu.Unlock()
			if (n+i)%3 == 1 {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
	p := t.proxy(t.raw(flaky), t.raw(flaky), t.dead())
	var wg sync.WaitGroup
	var served atomic.Int64
	const clients, each = 4, 50
	for g := range clients {
		client := t.client()
		var reqs []*http.Request
		for i := range each {
			req := t.newRequest(p, "POST", "/", strings.NewReader(strings.Repeat("x", i*40)))
			req.Header.Set("Id", fmt.Sprint(g, "-", i))
			reqs = append(reqs, req)
		}
		wg.Go(func() {
			for _, req := range reqs {
				// What is not served may be answered, or not: other cases are about that.
				if got, err := tryOn(client, req); err == nil && got.StatusCode == 200 {
					served.Add(1)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for id, n := range times {
		if n > 1 {
			t.errorf("request %s arrived %d times", id, n)
		}
	}
	if n := served.Load(); n == 0 {
		t.errorf("none of %d was served", clients*each)
	}
}

// badBackendCases are about backends of which nothing good can come.
func badBackendCases() []Case {
	const g = "bad days"
	return []Case{
		{g, "no backend at all", "is answered with 502 or 503, at once", all(), noBackend},
		{g, "all backends refuse", "is answered with 502 or 503, at once", all(), allRefuse},
		{g, "a backend that hangs", "is answered with 504 when the time is over, and a POST is not made again", all(), hangs},
		{g, "a slow backend", "an answer that comes byte by byte is passed on", all(), slowAnswer},
	}
}

func (t *T) wants5xx(p Proxy) {
	began := time.Now()
	got := t.get(p, "/")
	if got.StatusCode != 502 && got.StatusCode != 503 {
		t.errorf("got %d", got.StatusCode)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.errorf("it took %v", took.Round(100*time.Millisecond))
	}
}

func noBackend(t *T) { t.wants5xx(t.proxy()) }

func allRefuse(t *T) { t.wants5xx(t.proxy(t.dead(), t.dead())) }

func hangs(t *T) {
	var asked atomic.Int64
	silent := func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, _, err := readRequest(r); err == nil {
			asked.Add(1)
		}
		io.Copy(io.Discard, r)
	}
	p := t.start(Setup{Backends: []string{t.raw(silent), t.raw(silent)}, Impatient: true})
	client := t.client()
	client.Timeout = patience + 2*t.subject.Response
	got, err := tryOn(client, t.newRequest(p, "POST", "/", strings.NewReader("body")))
	if err != nil || got.StatusCode != 504 {
		t.errorf("got %v, %v", got, err)
	}
	if n := asked.Load(); n != 1 {
		t.errorf("backends were asked %d times", n)
	}
}

func slowAnswer(t *T) {
	p := t.proxy(t.raw(func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, _, err := readRequest(r); err != nil {
			return
		}
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Mine: kept\r\n\r\nhello world") {
			<-tick.C
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
		}
	}))
	if got := t.get(p, "/"); got.StatusCode != 200 || got.body != "hello world" || got.Header.Get("X-Mine") != "kept" {
		t.errorf("got %d %q", got.StatusCode, got.body)
	}
}
