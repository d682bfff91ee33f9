package behaviourtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// switchCases are about connections that leave HTTP (RFC 9110 section 7.8).
func switchCases() []Case {
	return []Case{
		{"upgrades", "WebSocket", "messages of all kinds and sizes pass both ways, whole or in frames (RFC 6455)", over1(), webSocket},
		{"upgrades", "WebSocket, closing", "a close frame passes with its code, and the connections end", over1(), webSocketCloses},
		{"upgrades", "other protocol", "any protocol passes, with the end of either direction by itself", over1(), otherProtocol},
		{"upgrades", "server speaks first", "bytes right behind the 101 reach the client", over1(), speaksFirst},
		{"upgrades", "refused upgrade", "a backend that does not switch answers as ever, and the connection goes on", over1(), refusedSwitch},
		{"upgrades", "unasked switch", "a backend that switches though nobody asked gets no tunnel", over1(), unaskedSwitch},
		{"upgrades", "upgrade to h2c", "a client cannot have a tunnel to a backend by it, past the proxy's rules (RFC 9113 section 3.1)", over1(), upgradeToH2C},
	}
}

// switching is a raw backend that switches to what it is asked for, and goes on
// with fn. Other requests get an answer.
func switching(first string, fn func(c *net.TCPConn, r *bufio.Reader)) func(int, *net.TCPConn) {
	return func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		req, _, err := readRequest(r)
		if err != nil {
			return
		}
		if req.Header.Get("Upgrade") == "" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n%s",
			req.Header.Get("Upgrade"), wsAccept, first)
		fn(c, r)
	}
}

// echoing echoes what was switched to, and then ends.
func echoing(c *net.TCPConn, r *bufio.Reader) {
	io.Copy(c, r)
}

// From the example of RFC 6455 section 1.3.
const (
	wsKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	wsAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// upgrade asks for a protocol, and returns the connection after the switch.
func (t *T) upgrade(p Proxy, protocol string) *conn {
	c := t.dial(p)
	c.send(request("GET", "/", "Connection: Upgrade", "Upgrade: "+protocol, "Sec-WebSocket-Key: "+wsKey, "Sec-WebSocket-Version: 13"))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.fatalf("asking for %s: %v", protocol, err)
	}
	if resp.StatusCode != 101 || !strings.EqualFold(resp.Header.Get("Upgrade"), protocol) || resp.Header.Get("Sec-WebSocket-Accept") != wsAccept {
		t.fatalf("asking for %s: %d, %v", protocol, resp.StatusCode, resp.Header)
	}
	return c
}

// frame encodes one of RFC 6455 section 5.2, as clients do, with a mask.
func frame(fin bool, opcode byte, payload []byte) []byte {
	b := []byte{opcode, 0x80}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, x := range payload {
		b = append(b, x^mask[i%4])
	}
	return b
}

// echoed sends bytes while it reads as many back, and reports whether these are
// the same.
func (c *conn) echoed(b []byte) error {
	// What was before it, such as the making of b, may have taken long.
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(b)
		sent <- err
	}()
	got := make([]byte, len(b))
	if n, err := io.ReadFull(c.r, got); err != nil {
		return fmt.Errorf("%d of %d bytes came back: %w", n, len(b), err)
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("%d bytes came back changed", len(b))
	}
	return <-sent
}

// webSocket sends every kind of frame at every boundary of length. A proxy has no
// business with frames: that they pass as they are is what is looked at.
func webSocket(t *T) {
	p := t.proxy(t.raw(switching("", echoing)))
	c := t.upgrade(p, "websocket")
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20} {
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = byte(rnd.Uint32())
		}
		var b []byte
		b = append(b, frame(true, 2, payload)...)           // binary, whole
		b = append(b, frame(false, 1, payload[:n/2])...)    // text, in two,
		b = append(b, frame(true, 9, []byte("are you"))...) // with a ping,
		b = append(b, frame(true, 10, nil)...)              // and a pong between
		b = append(b, frame(true, 0, payload[n/2:])...)
		if err := c.echoed(b); err != nil {
			t.fatalf("frames of %d bytes: %v", n, err)
		}
	}
	for _, b := range frame(true, 1, []byte("byte by byte")) {
		if err := c.echoed([]byte{b}); err != nil {
			t.fatalf("byte by byte: %v", err)
		}
	}
}

func webSocketCloses(t *T) {
	ended := make(chan error, 1)
	p := t.proxy(t.raw(switching("", func(c *net.TCPConn, r *bufio.Reader) {
		_, err := io.CopyN(c, r, int64(len(frame(true, 8, []byte{3, 233}))))
		c.CloseWrite()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		ended <- err
	})))
	c := t.upgrade(p, "websocket")
	if err := c.echoed(frame(true, 8, []byte{3, 233})); err != nil {
		t.fatalf("close frame: %v", err)
	}
	if !c.ends(2 * time.Second) {
		t.errorf("the client's connection goes on")
	}
	c.Close()
	wait(t, "the end of the backend's connection", ended)
}

func otherProtocol(t *T) {
	p := t.proxy(t.raw(switching("", func(c *net.TCPConn, r *bufio.Reader) {
		text, err := io.ReadAll(r) // to the end of the client's direction
		if err == nil {
			fmt.Fprintf(c, "you said %s", text)
		}
	})))
	c := t.upgrade(p, "chat/2")
	c.send("hello")
	if err := c.closeWrite(); err != nil {
		t.fatalf("ending a direction: %v", err)
	}
	if got, err := io.ReadAll(c.r); err != nil || string(got) != "you said hello" {
		t.errorf("got %q, %v", got, err)
	}
}

func speaksFirst(t *T) {
	p := t.proxy(t.raw(switching("welcome", echoing)))
	c := t.upgrade(p, "websocket")
	got := make([]byte, len("welcome"))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "welcome" {
		t.fatalf("got %q, %v", got, err)
	}
	if err := c.echoed([]byte("thanks")); err != nil {
		t.errorf("%v", err)
	}
}

func refusedSwitch(t *T) {
	p := t.proxy(t.backend("a", says("no")).addr)
	c := t.dial(p)
	for range 2 {
		c.send(request("GET", "/", "Connection: Upgrade", "Upgrade: chat/2"))
		if got := t.mustAnswer(c, "GET"); got.StatusCode != 200 || got.body != "no" {
			t.fatalf("got %d %q", got.StatusCode, got.body)
		}
	}
}

func unaskedSwitch(t *T) {
	p := t.proxy(t.raw(answering("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/2\r\n\r\n", false)))
	c := t.dial(p)
	c.send(request("GET", "/"))
	resp, err := http.ReadResponse(c.r, nil)
	if err == nil && resp.StatusCode < 500 {
		t.errorf("got %d", resp.StatusCode)
	}
}

func upgradeToH2C(t *T) {
	heads := make(chan *http.Request, 1)
	p := t.proxy(t.raw(func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		req, _, err := readRequest(r)
		if err != nil {
			return
		}
		heads <- req
		if req.Header.Get("Upgrade") == "" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\ntunnel")
	}))
	c := t.dial(p)
	c.send(request("GET", "/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"))
	resp, err := http.ReadResponse(c.r, nil)
	if err == nil && resp.StatusCode == 101 {
		if rest, _ := c.r.Peek(6); slices.Equal(rest, []byte("tunnel")) {
			t.errorf("there is a tunnel to the backend")
		}
	}
	select {
	case req := <-heads:
		if v := req.Header.Get("Upgrade"); v != "" {
			t.errorf("the backend was asked to upgrade to %q", v)
		}
	default:
	}
}
