package behaviourtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"time"
)

// streamCases are about messages that take their time.
func streamCases() []Case {
	return []Case{
		{"streams", "server-sent events", "an event reaches the client within 100 ms, while the response goes on", all(), eventsFlow("text/event-stream", false)},
		{"streams", "response in parts", "a part of a response of known length reaches the client while the response goes on", all(), eventsFlow("text/plain", true)},
		{"streams", "request in parts", "the beginning of a request's body reaches the backend while the request goes on", all(), requestFlows},
		{"streams", "both ways at once", "request and response flow at the same time, turn by turn", all(), fullDuplex},
		{"streams", "early response", "an answer that comes before the end of the request reaches the client", all(), earlyResponse},
		{"streams", "client leaves", "when the client goes away its request at the backend ends", all(), clientLeaves},
		{"streams", "truncated response with a length", "a response that breaks off does so at the client, too", all(), truncated("Content-Length: 100\r\n\r\nsome")},
		{"streams", "truncated response in chunks", "a response that breaks off does so at the client, too", all(), truncated("Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n")},
		{"streams", "gRPC, one answer", "a call of gRPC is answered, with trailers", over2(), grpcUnary},
		{"streams", "gRPC, both ways", "messages of a call pass one by one, both ways, trailers last", over2(), grpcBoth},
		{"streams", "gRPC, trailers alone", "an answer that is nothing but its trailers passes", over2(), grpcTrailersOnly},
		{"streams", "gRPC, given up", "a call that its client gives up ends at the backend", over2(), grpcCancelled},
		{"streams", "many at once", "100 requests are under way at the same time on one connection", over2(), manyStreams},
		{"streams", "one that is not read", "a response that nobody reads does not hold up another on the same connection", over2(), unreadStream},
	}
}

// onHints collects informational responses.
func onHints(ctx context.Context, hints *[]string) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		*hints = append(*hints, fmt.Sprint(code, " ", h.Get("Link")))
		return nil
	}})
}

// eventsFlow is a backend that sends a line and waits. The quickest of five
// counts: a busy machine may delay some.
func eventsFlow(kind string, length bool) func(*T) {
	return func(t *T) {
		p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			if length {
				w.Header().Set("Content-Length", "1000")
			}
			fmt.Fprintf(w, "data: %d\n", time.Now().UnixNano())
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}).addr)
		best := time.Hour
		for range 5 {
			resp, cancel := t.open(t.newRequest(p, "GET", "/", nil))
			giveUp := time.AfterFunc(patience, cancel)
			line, err := bufio.NewReader(resp.Body).ReadString('\n')
			var sent int64
			if _, scanErr := fmt.Sscanf(line, "data: %d", &sent); err != nil || scanErr != nil {
				t.fatalf("got %d, %q, %v", resp.StatusCode, line, err)
			}
			giveUp.Stop()
			cancel()
			if best = min(best, time.Since(time.Unix(0, sent))); best < 50*time.Millisecond {
				return
			}
		}
		if best > 100*time.Millisecond {
			t.errorf("the quickest of five took %v", best.Round(time.Millisecond))
		}
	}
}

func requestFlows(t *T) {
	began := make(chan string, 1)
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 5)
		n, _ := io.ReadFull(r.Body, buf)
		began <- string(buf[:n])
		io.Copy(io.Discard, r.Body)
	}).addr)
	pr, pw := io.Pipe()
	t.cleanup(func() { pw.Close() })
	ended := make(chan error, 1)
	req := t.newRequest(p, "POST", "/", pr)
	client := t.client()
	go func() {
		_, err := tryOn(client, req)
		ended <- err
	}()
	go io.WriteString(pw, "first")
	if got := wait(t, "the beginning of the body at the backend", began); got != "first" {
		t.errorf("the backend got %q", got)
	}
	pw.Close()
	if err := wait(t, "the answer", ended); err != nil {
		t.errorf("%v", err)
	}
}

// converses answers every line of a request at once.
func converses(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	rc.Flush()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); rc.Flush() {
		fmt.Fprintf(w, "you said %s\n", lines.Text())
	}
}

func fullDuplex(t *T) {
	p := t.proxy(t.backend("a", converses).addr)
	if !t.front.IsHTTP2() {
		c := t.dial(p)
		c.send(request("POST", "/", "Transfer-Encoding: chunked"), "2\r\n0\n\r\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.fatalf("reading the response: %v", err)
		}
		answers := bufio.NewReader(resp.Body)
		for i := range 5 {
			if got, err := answers.ReadString('\n'); err != nil || got != fmt.Sprintf("you said %d\n", i) {
				t.fatalf("answer %d is %q, %v", i, got, err)
			}
			c.send(fmt.Sprintf("2\r\n%d\n\r\n", i+1))
		}
		return
	}
	pr, pw := io.Pipe()
	t.cleanup(func() { pw.Close() })
	go io.WriteString(pw, "0\n")
	resp, cancel := t.open(t.newRequest(p, "POST", "/", pr))
	defer time.AfterFunc(patience, cancel).Stop()
	answers := bufio.NewReader(resp.Body)
	for i := range 5 {
		if got, err := answers.ReadString('\n'); err != nil || got != fmt.Sprintf("you said %d\n", i) {
			t.fatalf("answer %d is %q, %v", i, got, err)
		}
		go fmt.Fprintf(pw, "%d\n", i+1)
	}
}

func earlyResponse(t *T) {
	p := t.proxy(t.raw(func(_ int, c *net.TCPConn) {
		if _, err := readHead(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		}
		// Closing with most of the request unread makes the kernel send a reset.
	}))
	for range 10 {
		body := io.NopCloser(io.LimitReader(rand.NewChaCha8([32]byte{2}), 4<<20))
		got, err := t.try(t.newRequest(p, "POST", "/", body))
		if err != nil || got.StatusCode != http.StatusRequestEntityTooLarge || got.body != "big" {
			t.fatalf("got %v, %v", got, err)
		}
	}
}

func clientLeaves(t *T) {
	arrived, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-r.Context().Done():
			ended <- struct{}{}
		case <-time.After(patience):
		}
	}).addr)
	ctx, cancel := context.WithCancel(t.ctx)
	go func() {
		select {
		case <-arrived:
		case <-t.ctx.Done():
		}
		cancel()
	}()
	if got, err := t.try(t.newRequest(p, "GET", "/", nil).WithContext(ctx)); err == nil {
		t.fatalf("got %d", got.StatusCode)
	}
	wait(t, "the end of the request at the backend", ended)
}

func truncated(rest string) func(*T) {
	return func(t *T) {
		p := t.proxy(t.raw(answering("HTTP/1.1 200 OK\r\n"+rest, true)))
		got, err := t.try(t.newRequest(p, "GET", "/", nil))
		if err == nil {
			t.errorf("it looks whole: %d %q", got.StatusCode, got.body)
		} else if isTimeout(err) {
			t.errorf("it has no end: %v", err)
		}
	}
}
