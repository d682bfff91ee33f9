package balance_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// Bodies of any length and framing arrive whole in both directions.
func TestBodies(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Framing", fmt.Sprint(r.ContentLength, r.TransferEncoding))
		w.Write(body)
	}))
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 4095, 64 << 10, 64<<10 + 1, 3 << 20} {
		body := make([]byte, size)
		random.Read(body)
		for _, chunked := range []bool{false, true} {
			req := request(t, http.MethodPost, f.url("/"), bytes.NewReader(body))
			want := fmt.Sprint(size, []string(nil))
			if chunked && size > 0 {
				req = request(t, http.MethodPost, f.url("/"), io.NopCloser(bytes.NewReader(body)))
				want = fmt.Sprint(-1, []string{"chunked"})
			}
			got := do(t, req)
			if sha256.Sum256([]byte(got.body)) != sha256.Sum256(body) || got.Header.Get("X-Framing") != want {
				t.Errorf("size %d, chunked %v: got %d bytes, framing %s; want %s",
					size, chunked, len(got.body), got.Header.Get("X-Framing"), want)
			}
		}
	}
}

func TestTrailers(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(w, r.Body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	}))
	req := request(t, http.MethodPost, f.url("/"), io.NopCloser(strings.NewReader("body")))
	req.Trailer = http.Header{"X-In": {"sum"}}
	got := do(t, req)
	if got.body != "body" || got.Trailer.Get("X-Sum") != "sum" || got.Trailer.Get("X-Late") != "late" {
		t.Errorf("got %q, trailers %v", got.body, got.Trailer)
	}
}

// The client sends its body only after the backend has asked for it, and not at
// all where the backend refuses.
func TestExpectContinue(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	}))
	for _, tc := range []struct{ path, status string }{{"/yes", "100"}, {"/no", "417"}} {
		c := dial(t, f)
		fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", tc.path)
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+tc.status) {
			t.Fatalf("%s: got %q, %v; want %s before the body", tc.path, line, err, tc.status)
		}
		if tc.path == "/no" {
			continue
		}
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "body")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "body" {
			t.Errorf("got %q, %v", body, err)
		}
	}
}

func TestEarlyHints(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "page")
	}))
	c := dial(t, f)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 103") {
		t.Errorf("got %q, %v; want 103 first", line, err)
	}
}

// An event arrives while the response goes on, whatever its framing.
func TestCaseB7FirstEventIsPrompt(t *testing.T) {
	for _, header := range []string{"Content-Type: text/event-stream", "Content-Length: 1000", "Content-Type: text/plain"} {
		t.Run(header, func(t *testing.T) {
			f := openHTTP(t)
			more := make(chan struct{})
			f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
				name, value, _ := strings.Cut(header, ": ")
				w.Header().Set(name, value)
				io.WriteString(w, "data: 1\n\n")
				w.(http.Flusher).Flush()
				select {
				case <-more:
				case <-r.Context().Done():
				}
			}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, err := newClient(t).Do(request(t, http.MethodGet, f.url("/"), nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			// The backend waits: without prompt flushing this never ends.
			if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "data: 1\n" {
				t.Errorf("got %q, %v", line, err)
			}
			if s := f.Status()[0]; s.Active != 1 {
				t.Errorf("status = %+v; want the stream under way", s)
			}
			cancel()
			eventually(t, "the end of a stream whose client left", func() bool { return f.Status()[0].Active == 0 })
			if s := f.Status()[0]; s.Failures != 0 || !s.Healthy {
				t.Errorf("status = %+v; a client that leaves is no failure", s)
			}
			close(more)
		})
	}
}

// A response that comes before the end of the request reaches the client.
func TestEarlyResponse(t *testing.T) {
	f := openHTTP(t)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		for line := "x"; line != "\r\n"; {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
		}
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		// Closing with most of the request unread makes the kernel send a reset.
	}))
	for range 20 {
		body := io.NopCloser(io.LimitReader(rand.NewChaCha8([32]byte{2}), 4<<20))
		resp, err := newClient(t).Do(request(t, http.MethodPost, f.url("/"), body))
		if err != nil {
			t.Fatalf("%v\n%s", err, f.log)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || string(got) != "big" {
			t.Fatalf("got %d %q, %v; want the backend's 413", resp.StatusCode, got, err)
		}
	}
}

// Request and response flow at the same time, as conversations over HTTP/1.1 do.
func TestFullDuplex(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		for lines := bufio.NewScanner(r.Body); lines.Scan(); rc.Flush() {
			fmt.Fprintf(w, "you said %s\n", lines.Text())
		}
	}))
	c := dial(t, f)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n")
	var resp *http.Response
	var answers *bufio.Reader
	for i := range 5 {
		fmt.Fprintf(c, "2\r\n%d\n\r\n", i)
		if resp == nil {
			var err error
			if resp, err = http.ReadResponse(bufio.NewReader(c), nil); err != nil {
				t.Fatal(err)
			}
			answers = bufio.NewReader(resp.Body)
		}
		if got, err := answers.ReadString('\n'); err != nil || got != fmt.Sprintf("you said %d\n", i) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	fmt.Fprint(c, "0\r\n\r\n")
	if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

func echoSocket(t *testing.T) string {
	ws := websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) })
	return httpBackend(t, ws.ServeHTTP)
}

func dialSocket(t *testing.T, f *front) *websocket.Conn {
	t.Helper()
	c, err := websocket.Dial("ws://"+f.Addr().String()+"/", "", "http://web/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func echo(c *websocket.Conn, text string) error {
	if err := websocket.Message.Send(c, text); err != nil {
		return err
	}
	var got string
	if err := websocket.Message.Receive(c, &got); err != nil {
		return err
	}
	if got != text {
		return fmt.Errorf("got %q; want %q", got, text)
	}
	return nil
}

func TestWebSocket(t *testing.T) {
	f := openHTTP(t)
	f.set(deadAddr(t), echoSocket(t))
	c := dialSocket(t, f)
	for i := range 3 {
		if err := echo(c, fmt.Sprint("message ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if s := f.Status()[1]; s.Active != 1 || s.Requests != 1 {
		t.Errorf("status = %+v; want one under way", s)
	}
	c.Close()
	eventually(t, "the end of the connection", func() bool { return f.Status()[1].Active == 0 })
}

func TestUnaskedSwitch(t *testing.T) {
	f := openHTTP(t)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		if _, err := readRequest(c); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: rubbish\r\n\r\n")
			io.Copy(io.Discard, c)
		}
	}))
	if got := get(t, f.url("/")); got.StatusCode != http.StatusBadGateway {
		t.Errorf("got %d; want 502", got.StatusCode)
	}
}
