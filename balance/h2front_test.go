package balance_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"golang.org/x/net/http2"
)

// HTTP/2 without TLS and HTTP/1.1 at one port, to a backend of HTTP/1.1: bodies
// and trailers both ways, the fields that tell of the client.
func TestH2CBesideHTTP1(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Seen", fmt.Sprint(r.Proto, " ", r.Host, " ", r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"], r.Header["Cookie"]))
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
	}))
	for name, do := range map[string]func(testing.TB, *http.Request) reply{"HTTP/2.0": doH2, "HTTP/1.1": do} {
		body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		req := request(t, http.MethodPost, f.url("/"), io.NopCloser(bytes.NewReader(body)))
		req.Host = "web.example"
		req.Trailer = http.Header{"X-In": {"sum"}}
		req.Header.Set("X-Forwarded-For", "spoofed")
		req.Header.Set("Cookie", "a=1; b=2")
		got := do(t, req)
		if got.body != string(body) || got.Trailer.Get("X-Sum") != "sum" || got.Proto != name {
			t.Errorf("%s: got %d bytes, trailers %v", got.Proto, len(got.body), got.Trailer)
		}
		if seen, want := got.Header.Get("X-Seen"), "HTTP/1.1 web.example [127.0.0.1] [http] [a=1; b=2]"; seen != want {
			t.Errorf("%s: the backend saw %s; want %s", name, seen, want)
		}
	}
}

// Each stream of a connection is balanced by itself, and a thousand of them are
// under way at once.
func TestH2ThousandStreams(t *testing.T) {
	const streams, backends = 1000, 4
	f := openHTTP(t)
	var arrived sync.WaitGroup
	arrived.Add(streams)
	all := make(chan struct{})
	var addrs []string
	for range backends {
		addrs = append(addrs, httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
			arrived.Done()
			<-all
		}))
	}
	f.set(addrs...)
	go func() { arrived.Wait(); close(all) }()
	h := dialH2(t, f)
	for i := range streams {
		h.ask(t, uint32(2*i+1), true)
	}
	for answered := 0; answered < streams; {
		h.until(t, "answer", func(fr http2.Frame) bool {
			m, ok := fr.(*http2.MetaHeadersFrame)
			if ok && m.PseudoValue("status") != "200" {
				t.Errorf("stream %d: status %s", m.StreamID, m.PseudoValue("status"))
			}
			return ok
		})
		answered++
	}
	for _, s := range f.Status() {
		if s.Requests != streams/backends || s.Failures != 0 {
			t.Errorf("status = %+v; want %d requests", s, streams/backends)
		}
	}
}

// What HTTP/1.1 could not say does not become HTTP/1.1 on the way to a backend.
func TestH2MalformedRequests(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, says("served")))
	h := dialH2(t, f)
	stream := uint32(1)
	for _, tc := range []struct {
		fields []string
		want   string
	}{
		{nil, "200"},
		{[]string{"host", "web"}, "200"},
		{[]string{"host", "other"}, "400"},
		{[]string{":authority", "web\"x"}, "400"},
		{[]string{":authority", "me@web"}, "PROTOCOL_ERROR"},
		{[]string{":path", "/?x HTTP/1.1"}, "400"},
		{[]string{":path", "/a b"}, "400"},
		{[]string{":path", "http://other/"}, "400"},
		{[]string{":path", "x"}, "PROTOCOL_ERROR"},
		{[]string{":path", "/\r\nX-A: b"}, "PROTOCOL_ERROR"},
		{[]string{":method", "GET /admin HTTP/1.1"}, "400"},
		{[]string{":scheme", "ftp"}, "PROTOCOL_ERROR"},
		{[]string{"x-a", "b\r\nx-c: d"}, "PROTOCOL_ERROR"},
		{[]string{"X-Upper", "a"}, "PROTOCOL_ERROR"},
		{[]string{"transfer-encoding", "chunked"}, "400"},
		{[]string{"connection", "close"}, "400"},
		{[]string{"upgrade", "websocket"}, "400"},
		{[]string{"te", "gzip"}, "400"},
		{[]string{"te", "trailers"}, "200"},
	} {
		h.ask(t, stream, true, tc.fields...)
		if got := h.status(t, stream); got != tc.want {
			t.Errorf("%q: got %s; want %s", tc.fields, got, tc.want)
		}
		stream += 2
	}
	// A body that is not as long as its header says.
	h.ask(t, stream, false, "content-length", "5")
	h.WriteData(stream, true, []byte("x"))
	if got := h.status(t, stream); got != "400" {
		t.Errorf("a body that is too short: got %s", got)
	}
	if s := f.Status()[0]; s.Failures != 0 || !s.Healthy {
		t.Errorf("the backend is blamed: %+v", s)
	}
}

// A wish to go on in HTTP/2 makes no tunnel past this proxy.
func TestUpgradeToH2CIsIgnored(t *testing.T) {
	r := seen(t, openHTTP(t), func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade, HTTP2-Settings")
		r.Header.Set("Upgrade", "h2c")
		r.Header.Set("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
	})
	for _, name := range []string{"Upgrade", "Connection", "Http2-Settings"} {
		if v, ok := r.Header[name]; ok {
			t.Errorf("%s = %q came through", name, v)
		}
	}
}

func TestH2HeaderLimits(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, says("served")))
	h := dialH2(t, f)
	// A header of HPACK's own making: one entry of its table, named again and again.
	big := []string{"x-a", strings.Repeat("a", 3000)}
	for range 6 {
		big = append(big, big...)
	}
	h.ask(t, 1, true, big...)
	if got := h.status(t, 1); got != "431" {
		t.Errorf("got %s; want 431", got)
	}
	h.ask(t, 3, true, "x-a", strings.Repeat("a", 10<<10))
	if got := h.status(t, 3); got != "200" {
		t.Errorf("after that, on the same connection: got %s", got)
	}
	// One that never ends costs the connection.
	if err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: h.block(), EndStream: true}); err != nil {
		t.Fatal(err)
	}
	flood := bytes.Repeat([]byte{0x40, 1, 'a', 1, 'b'}, 3000)
	var err error
	for i := 0; err == nil && i < 10000; i++ {
		err = h.WriteContinuation(5, false, flood)
	}
	if err == nil {
		t.Error("150 MB of a header were read")
	}
	eventually(t, "another connection", func() bool { return doH2(t, request(t, "GET", f.url("/"), nil)).StatusCode == 200 })
}

func TestH2BodyLimit(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Limits: balance.Limits{Body: 8}})
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	h := dialH2(t, f)
	for i, tc := range []struct{ length, body, want string }{
		{"8", "12345678", "200"}, {"9", "123456789", "413"}, {"", "123456789", "413"}, {"", "12345678", "200"},
	} {
		stream := uint32(2*i + 1)
		fields := []string{":method", "POST"}
		if tc.length != "" {
			fields = append(fields, "content-length", tc.length)
		}
		h.ask(t, stream, false, fields...)
		h.WriteData(stream, true, []byte(tc.body))
		if got := h.status(t, stream); got != tc.want {
			t.Errorf("%+v: got %s", tc, got)
		}
	}
}

// A client learns how many streams it may open, and one more is refused.
func TestH2StreamLimit(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Limits: balance.Limits{Streams: 2}})
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	h := dialH2(t, f)
	h.until(t, "settings", func(fr http2.Frame) bool {
		s, ok := fr.(*http2.SettingsFrame)
		if !ok || s.IsAck() {
			return false
		}
		if v, ok := s.Value(http2.SettingMaxConcurrentStreams); !ok || v != 2 {
			t.Errorf("the limit told is %d", v)
		}
		return true
	})
	for stream := uint32(1); stream <= 5; stream += 2 {
		h.ask(t, stream, true)
	}
	if got := h.status(t, 5); got != "PROTOCOL_ERROR" && got != "REFUSED_STREAM" {
		t.Errorf("got %s", got)
	}
}

// The backend learns that the client has lost interest.
func TestH2CancelReachesBackend(t *testing.T) {
	f := openHTTP(t)
	arrived, left := make(chan struct{}), make(chan struct{})
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(left)
	}))
	h := dialH2(t, f)
	h.ask(t, 1, true)
	receive(t, arrived)
	h.WriteRSTStream(1, http2.ErrCodeCancel)
	receive(t, left)
	eventually(t, "the end of the request", func() bool { s := f.Status()[0]; return s.Active == 0 && s.Failures == 0 })
}

// Streams that are opened and reset as fast as can be cost neither memory nor
// the room of others (CVE-2023-44487).
func TestH2RapidReset(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Limits: balance.Limits{Streams: 100, BackendRequests: 150}})
	f.set(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	}))
	other := newH2Client(t)
	getOther := func() int {
		resp, err := other.Do(request(t, "GET", f.url("/"), nil))
		if err != nil {
			t.Fatalf("others: %v", err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	getOther()
	before := runtime.NumGoroutine()
	h := dialH2(t, f)
	broken := make(chan error, 1)
	go func() { broken <- h.ended() }()
	most := 0
	for i := range 20000 {
		stream := uint32(2*i + 1)
		if h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.block(":path", "/hang"), EndStream: true, EndHeaders: true}) != nil ||
			h.WriteRSTStream(stream, http2.ErrCodeCancel) != nil {
			break // it was sent away, as it may be
		}
		if i%500 == 0 {
			most = max(most, f.Status()[0].Active)
			if got := getOther(); got != 200 {
				t.Fatalf("others get %d", got)
			}
		}
	}
	t.Logf("%d goroutines, then %d", before, runtime.NumGoroutine())
	if most > 100 {
		t.Errorf("up to %d requests were under way at the backend; want no more than its streams", most)
	}
	h.conn.Close()
	receive(t, broken)
	eventually(t, "all is over", func() bool {
		return f.Status()[0].Active == 0 && runtime.NumGoroutine() < before+50
	})
	if s := f.Status()[0]; s.Failures != 0 || !s.Healthy {
		t.Errorf("the backend is blamed: %+v", s)
	}
}

// narrowListener lets little be written to those who do not read.
type narrowListener struct{ net.Listener }

func (l narrowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// Pings and settings that ask for answers, which nobody reads, end the
// connection.
func TestH2ControlFlood(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: narrowListener{listen(t)}})
	f.set(httpBackend(t, says("served")))
	h := dialH2(t, f)
	ping := []byte{0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		_, err = h.conn.Write(bytes.Repeat(ping, 1000))
	}
	if err == nil || os.IsTimeout(err) {
		t.Errorf("10 million pings: %v; want an end of the connection", err)
	}
	if got := doH2(t, request(t, "GET", f.url("/"), nil)); got.StatusCode != 200 {
		t.Errorf("others get %d", got.StatusCode)
	}
}

// A client that takes nothing of an answer loses its stream, and not others.
func TestH2ClientThatDoesNotRead(t *testing.T) {
	f := openHTTP(t, balance.WithStall(200*time.Millisecond))
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Write(make([]byte, 1<<20))
			return
		}
		w.(http.Flusher).Flush() // and then nothing, which is not the client's fault
		<-r.Context().Done()
	}))
	h := dialH2(t, f)
	h.ask(t, 1, true, ":path", "/events")
	if got := h.status(t, 1); got != "200" {
		t.Fatalf("got %s", got)
	}
	h.ask(t, 3, true, ":path", "/large")
	h.until(t, "reset", func(fr http2.Frame) bool {
		r, ok := fr.(*http2.RSTStreamFrame)
		if ok && r.StreamID != 3 {
			t.Fatalf("stream %d was reset", r.StreamID)
		}
		return ok
	})
	eventually(t, "the end of one", func() bool { return f.Status()[0].Active == 1 })
}

// A body that does not come is answered with 408.
func TestH2BodyThatStops(t *testing.T) {
	f := openHTTP(t, balance.WithStall(200*time.Millisecond))
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	h := dialH2(t, f)
	h.ask(t, 1, false, ":method", "POST")
	h.WriteData(1, false, []byte("x"))
	if got := h.status(t, 1); got != "408" {
		t.Errorf("got %s", got)
	}
	if s := f.Status()[0]; s.Failures != 0 {
		t.Errorf("the backend is blamed: %+v", s)
	}
}

// What begins like HTTP/2 and goes on differently, or not at all.
func TestH2HalfPreface(t *testing.T) {
	f := openHTTP(t, balance.WithHeaderTimeout(200*time.Millisecond))
	f.set(httpBackend(t, says("served")))
	for _, head := range []string{
		"PRI * HTTP/2.0\r\n\r\nSM\r\n", "PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\nHost: web\r\n\r\n",
		"PRI * HTTP/2.0\r\nHost: web\r\n\r\nSM\r\n\r\n", "GET / HTTP/2.0\r\nHost: web\r\n\r\n",
	} {
		c := dial(t, f)
		io.WriteString(c, head)
		answer, err := io.ReadAll(bufio.NewReader(c))
		if err != nil || strings.Contains(string(answer), "served") {
			t.Errorf("%q: %q, %v; want an end and no service", head, answer, err)
		}
	}
}

// Events of an open response arrive at once.
func TestCaseB7EventsOverH2(t *testing.T) {
	f := openHTTP(t)
	next := make(chan string)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for event := range next {
			io.WriteString(w, event)
			w.(http.Flusher).Flush()
		}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { next <- "data: 0\n\n" }()
	resp, err := newH2Client(t).Do(request(t, "GET", f.url("/"), nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range 5 {
		want := fmt.Sprintf("data: %d\n\n", i)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
		if i < 4 {
			sent := time.Now()
			next <- fmt.Sprintf("data: %d\n\n", i+1)
			if took := time.Since(sent); took > 100*time.Millisecond {
				t.Errorf("the backend was held up for %v", took)
			}
		}
	}
	close(next)
}
