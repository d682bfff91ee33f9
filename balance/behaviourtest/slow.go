package behaviourtest

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// slowClientCases are about clients that take their time, or all of it.
func slowClientCases() []Case {
	const g = "slow clients"
	return []Case{
		{g, "header that stops", "a connection whose request does not get to its end is closed", over1(), headerStops},
		{g, "preface that stops", "a connection that begins HTTP/2 and goes no further is closed", over2(), prefaceStops},
		{g, "body that stops", "a request whose body stops is ended, at the client and at the backend", all(), bodyStops},
		{g, "response that is not read", "a response that nobody reads is ended at the backend", all(), notRead},
		{g, "slow body", "a body that comes slowly and steadily arrives", all(), slowBody},
		{g, "others meanwhile", "clients that do nothing do not keep others from being served", all(), idleClients},
	}
}

func headerStops(t *T) {
	p := t.start(Setup{Backends: []string{t.backend("a", says("a")).addr}, Impatient: true})
	c := t.dial(p)
	c.SetDeadline(time.Now().Add(patience + 2*t.subject.Header))
	c.send("GET / HTTP/1.1\r\nHost:")
	if got, err := c.answer("GET"); isTimeout(err) || err == nil && got.StatusCode != 408 && got.StatusCode != 400 {
		t.errorf("got %v, %v", got, err)
	}
	if !c.ends(time.Second) {
		t.errorf("the connection goes on")
	}
}

func prefaceStops(t *T) {
	p := t.start(Setup{Backends: []string{t.backend("a", says("a")).addr}, Impatient: true})
	c := t.dial(p)
	c.send(http2.ClientPreface[:20])
	if !c.ends(patience + 2*t.subject.Header) {
		t.errorf("the connection goes on")
	}
}

func bodyStops(t *T) {
	ended := make(chan error, 4)
	p := t.start(Setup{Backends: []string{t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}).addr}, Impatient: true})
	bound := patience + 2*t.subject.Stall
	if t.front.IsHTTP2() {
		h := t.dialH2(p)
		h.c.SetDeadline(time.Now().Add(bound))
		h.ask(1, false, ":method", "POST", "content-length", "10")
		h.WriteData(1, false, []byte("half"))
		if got := h.status(1); got == "silence" || strings.HasPrefix(got, "2") {
			t.errorf("got %s", got)
		}
	} else {
		c := t.dial(p)
		c.SetDeadline(time.Now().Add(bound))
		c.send(request("POST", "/", "Content-Length: 10"), "half")
		if got, err := c.answer("POST"); isTimeout(err) || err == nil && got.StatusCode < 400 {
			t.errorf("got %v, %v", got, err)
		}
	}
	// A proxy that waits for all of a body first has not asked anybody.
	select {
	case err := <-ended:
		if err == nil {
			t.errorf("the body looks whole to the backend")
		}
	case <-time.After(100 * time.Millisecond):
	}
}

func notRead(t *T) {
	arrived, ended := make(chan struct{}, 4), make(chan struct{}, 4)
	p := t.start(Setup{Backends: []string{t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		for part := make([]byte, 64<<10); ; {
			if _, err := w.Write(part); err != nil {
				ended <- struct{}{}
				return
			}
		}
	}).addr}, Impatient: true})
	if t.front.IsHTTP2() {
		h := t.dialH2(p)
		h.ask(1, true)
		if got := h.status(1); got != "200" {
			t.fatalf("got %s", got)
		}
		done := make(chan struct{})
		defer func() { h.c.Close(); <-done }()
		go func() { // pings and settings are heeded, windows stay shut
			defer close(done)
			h.c.SetDeadline(time.Time{})
			for {
				if _, err := h.next(); err != nil {
					return
				}
			}
		}()
	} else {
		c := t.dial(p)
		c.send(request("GET", "/"))
		if _, err := c.r.ReadByte(); err != nil {
			t.fatalf("no answer: %v", err)
		}
	}
	wait(t, "the request at the backend", arrived)
	select {
	case <-ended:
	case <-time.After(patience + 2*t.subject.Stall):
		t.errorf("it is still being sent at the backend")
	}
}

func slowBody(t *T) {
	p := t.start(Setup{Backends: []string{t.backend("a", echoes).addr}, Impatient: true})
	pr, pw := io.Pipe()
	text := strings.Repeat("x", 20)
	go func() {
		defer pw.Close()
		tick := time.NewTicker(max(min(t.subject.Stall/10, 100*time.Millisecond), time.Millisecond))
		defer tick.Stop()
		for i := range text {
			<-tick.C
			if _, err := io.WriteString(pw, text[i:i+1]); err != nil {
				return
			}
		}
	}()
	got, err := t.try(t.newRequest(p, "POST", "/", pr))
	pr.Close()
	if err != nil || got.body != text {
		t.errorf("got %v, %v", got, err)
	}
}

func idleClients(t *T) {
	var held atomic.Int64
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			held.Add(1)
			<-r.Context().Done()
		}
	}).addr)
	for range 100 {
		c := t.dial(p)
		if t.front.IsHTTP2() {
			c.send(http2.ClientPreface[:10])
		} else {
			c.send("GET / HTTP/1.1\r\n")
		}
	}
	for range 10 {
		if got, err := t.within(2*time.Second, t.newRequest(p, "GET", "/", nil)); err != nil || got.StatusCode != 200 {
			t.fatalf("got %v, %v", got, err)
		}
	}
}
