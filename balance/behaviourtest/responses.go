package behaviourtest

import (
	"bufio"
	"io"
	"net"
	"strings"
	"time"
)

// responseShapes are answers of backends whose end two parsers can see
// differently.
func responseShapes() []Case {
	const (
		refused = "is answered with 502, or is passed on in one form; "
		ok      = "HTTP/1.1 200 OK\r\n"
	)
	group := "malformed responses"
	return []Case{
		{group, "answer of two lengths", "is answered with 502 (RFC 9112 section 6.3)", all(), badAnswer(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx")},
		{group, "answer of negative length", "is answered with 502 (RFC 9112 section 6.3)", all(), badAnswer(ok + "Content-Length: -1\r\n\r\n")},
		{group, "answer that is not HTTP", "is answered with 502", all(), badAnswer("SSH-2.0-OpenSSH_9.9\r\n\r\n")},
		{group, "answer with half a header", "is answered with 502", all(), badAnswer(ok + "Content-Length: 5\r\n")},
		{group, "answer with an endless header", "is answered with 502", all(), endlessAnswer},
		{group, "answer with bad chunks", "is answered with 502, or breaks off at the client", all(), brokenAnswer(ok + te + "\r\n5\r\nhello\r\nzz\r\n")},
		{group, "answer of length and chunks", refused + "the chunks count (RFC 9112 section 6.3)", all(), oddAnswer(ok + "Content-Length: 3\r\n" + te + "\r\n" + chunkedBody)},
		{group, "answer with a folded line", refused + "RFC 9112 section 5.2", over1(), oddAnswer(ok + "X-Mine: a\r\n b\r\nContent-Length: 5\r\n\r\nhello")},
		{group, "answer with a blank before the colon", refused + "RFC 9112 section 5.1", all(), oddAnswer(ok + "X-Mine : a\r\nContent-Length: 5\r\n\r\nhello")},
		{group, "more than one answer", "what is left over is no answer to the next request (RFC 9112 section 9.2)", all(), surplusAnswer},
		{group, "body of a 204", "is no part of the answer, nor of the next (RFC 9112 section 6.3)", all(), bodyOf204},
	}
}

// badAnswer wants a 502 of it.
func badAnswer(answer string) func(*T) {
	return func(t *T) {
		p := t.proxy(t.raw(answering(answer, true)))
		if got := t.do(t.newRequest(p, "POST", "/", strings.NewReader("body"))); got.StatusCode != 502 {
			t.errorf("got %d %q", got.StatusCode, got.body)
		}
	}
}

func brokenAnswer(answer string) func(*T) {
	return func(t *T) {
		p := t.proxy(t.raw(answering(answer, true)))
		if got, err := t.try(t.newRequest(p, "GET", "/", nil)); err == nil && got.StatusCode != 502 {
			t.errorf("it looks whole: %d %q", got.StatusCode, got.body)
		} else if isTimeout(err) {
			t.errorf("it has no end: %v", err)
		}
	}
}

// oddAnswer wants a 502 or the text "hello", and nothing in the header that has to
// go.
func oddAnswer(answer string) func(*T) {
	return func(t *T) {
		p := t.proxy(t.raw(answering(answer, false)))
		if t.front.IsHTTP2() {
			if got := t.get(p, "/"); got.StatusCode != 502 && (got.StatusCode != 200 || got.body != "hello") {
				t.errorf("got %d %q", got.StatusCode, got.body)
			}
			return
		}
		c := t.dial(p)
		c.send(request("GET", "/"))
		head, err := readHead(c.r)
		if err != nil {
			t.fatalf("got %q, %v", head, err)
		}
		text := strings.ToLower(string(head))
		if strings.HasPrefix(text, "http/1.1 502") {
			return
		}
		if strings.Contains(text, "\ncontent-length") && strings.Contains(text, "\ntransfer-encoding") ||
			strings.Contains(text, "\n ") || strings.Contains(text, "mine :") {
			t.errorf("it came through as it was: %q", head)
		}
		c2 := t.dial(p)
		c2.send(request("GET", "/"))
		if got := t.mustAnswer(c2, "GET"); got.body != "hello" {
			t.errorf("got %d %q", got.StatusCode, got.body)
		}
	}
}

func endlessAnswer(t *T) {
	p := t.proxy(t.raw(func(_ int, c *net.TCPConn) {
		_, _, err := readRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for line := "X-More: " + strings.Repeat("x", 4000) + "\r\n"; err == nil; {
			_, err = io.WriteString(c, line)
		}
	}))
	if got := t.do(t.newRequest(p, "POST", "/", strings.NewReader("body"))); got.StatusCode != 502 {
		t.errorf("got %d", got.StatusCode)
	}
}

// surplusAnswer is a backend that sends a second answer right behind the first.
func surplusAnswer(t *T) {
	evil := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	p := t.proxy(t.raw(answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"+evil, false)))
	client := t.client()
	for i := range 5 {
		got, err := tryOn(client, t.newRequest(p, "GET", "/", nil))
		if err != nil || got.StatusCode == 200 && got.body != "good" {
			t.fatalf("answer %d is %v, %v", i+1, got, err)
		}
	}
}

func bodyOf204(t *T) {
	p := t.proxy(t.raw(answering("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", false)))
	if t.front.IsHTTP2() {
		for range 2 {
			if got := t.get(p, "/"); got.StatusCode != 204 && got.StatusCode != 502 || got.StatusCode == 204 && got.body != "" {
				t.errorf("got %d %q", got.StatusCode, got.body)
			}
		}
		return
	}
	c := t.dial(p)
	c.send(request("GET", "/"))
	got := t.mustAnswer(c, "GET")
	if got.StatusCode == 502 {
		return
	}
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if rest, _ := c.r.Peek(4); got.StatusCode != 204 || len(rest) > 0 {
		t.errorf("got %d, and %q behind it", got.StatusCode, rest)
	}
}
