package balance_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// h2Backend serves the streams of raw HTTP/2 connections by fn, which gets the
// header of each.
func h2Backend(t testing.TB, fn func(n int, h *rawH2, stream uint32)) string {
	var streams atomic.Int64
	return rawBackend(t, func(_ int, c *net.TCPConn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		h := newRawH2(c)
		h.WriteSettings()
		for {
			f, err := h.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					h.WriteSettingsAck()
				}
			case *http2.MetaHeadersFrame:
				fn(int(streams.Add(1)), h, f.StreamID)
			}
		}
	})
}

// begin begins an answer, or with end is all of it.
func (h *rawH2) begin(stream uint32, end bool, fields ...string) {
	h.headers.Reset()
	for i := 0; i < len(fields); i += 2 {
		h.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.headers.Bytes(), EndStream: end, EndHeaders: true})
}

// A backend that dies in the middle of a stream makes it UNAVAILABLE, and the
// next call goes to the other one.
func TestGRPCBackendDiesMidStream(t *testing.T) {
	f := openHTTP(t)
	dies, srv := grpcBackend(t, &calls{id: "dies"})
	lives, _ := grpcBackend(t, &calls{id: "lives"})
	f.set(dies)
	c := grpcClient(t, f)
	s, _ := talk(t, within(t), c)
	if err := ping(s, 1000); err != nil {
		t.Fatal(err)
	}
	f.set(dies, lives)
	srv.Stop()
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v; want UNAVAILABLE", err)
	}
	for range 4 {
		if by, err := oneUnary(within(t), c); err != nil || by != "lives" {
			t.Errorf("the next call: %q, %v", by, err)
		}
	}
	if s := f.Status()[0]; s.Healthy || s.Failures == 0 {
		t.Errorf("status = %+v", s)
	}
}

// A call that a backend has received is made once, whatever becomes of it. One
// that was certainly not processed is made elsewhere.
func TestGRPCRepetition(t *testing.T) {
	for name, tc := range map[string]struct {
		break1 func(h *rawH2, stream uint32)
		want   codes.Code
		calls  int64
	}{
		"connection lost":  {func(h *rawH2, _ uint32) { h.conn.Close() }, codes.Unavailable, 1},
		"stream reset":     {func(h *rawH2, s uint32) { h.WriteRSTStream(s, http2.ErrCodeInternal) }, codes.Internal, 1},
		"stream cancelled": {func(h *rawH2, s uint32) { h.WriteRSTStream(s, http2.ErrCodeCancel) }, codes.Canceled, 1},
		"rubbish":          {func(h *rawH2, s uint32) { h.begin(s, true, ":status", "none") }, codes.Internal, 1},
		"stream refused":   {func(h *rawH2, s uint32) { h.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, codes.OK, 3},
		"notice":           {func(h *rawH2, s uint32) { h.WriteGoAway(0, http2.ErrCodeNo, nil) }, codes.OK, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := openHTTP(t)
			var received atomic.Int64
			good, _ := grpcBackend(t, &calls{id: "good"}, grpc.UnaryInterceptor(
				func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
					received.Add(1)
					return next(ctx, req)
				}))
			// Each backend of the pair breaks what comes, or both proxies of a row.
			f.set(h2Backend(t, func(_ int, h *rawH2, stream uint32) {
				received.Add(1)
				tc.break1(h, stream)
			}), good)
			_, err := oneUnary(within(t), grpcClient(t, f))
			if status.Code(err) != tc.want {
				t.Errorf("got %v; want %v", err, tc.want)
			}
			if got := received.Load(); got < 1 || got > tc.calls {
				t.Errorf("backends received %d calls; want 1 to %d", got, tc.calls)
			}
		})
	}
}

// A stream on which the client has not said anything yet is opened elsewhere, too,
// and what is then said arrives.
func TestGRPCRepetitionBeforeFirstMessage(t *testing.T) {
	good, _ := grpcBackend(t, &calls{id: "good"})
	for name, bad := range map[string]string{
		"refused":      h2Backend(t, func(_ int, h *rawH2, s uint32) { h.WriteRSTStream(s, http2.ErrCodeRefusedStream) }),
		"an answer":    openHTTP(t).Addr().String(),
		"nobody there": deadAddr(t),
	} {
		f := openHTTP(t)
		f.set(bad, good)
		c := grpcClient(t, f)
		for range 3 {
			s, by := talk(t, within(t), c)
			if err := ping(s, 100); err != nil || by != "good" {
				t.Errorf("%s: %q, %v", name, by, err)
			}
			s.CloseSend()
			if _, err := s.Recv(); err != io.EOF {
				t.Errorf("%s: at the end: %v", name, err)
			}
		}
	}
}

// A backend that stops as it should costs no call.
func TestGRPCBackendStopsGracefully(t *testing.T) {
	f := openHTTP(t)
	stays, _ := grpcBackend(t, &calls{id: "stays"})
	c := grpcClient(t, f)
	for range 5 {
		goes, srv := grpcBackend(t, &calls{id: "goes"})
		f.set(goes, stays)
		ctx, cancel := context.WithCancel(within(t))
		var wg sync.WaitGroup
		var served atomic.Int64
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := oneUnary(within(t), c); err != nil {
						t.Errorf("a call was lost: %v", err)
						return
					}
					served.Add(1)
				}
			})
		}
		eventually(t, "some calls", func() bool { return served.Load() > 100 })
		srv.GracefulStop()
		more := served.Load() + 50
		eventually(t, "more calls", func() bool { return served.Load() > more })
		cancel()
		wg.Wait()
	}
}

// What this proxy itself has to say is a status of gRPC, in an answer of status
// 200 that is a header alone.
func TestGRPCAnswersOfTheProxy(t *testing.T) {
	for name, tc := range map[string]struct {
		backends func(t *testing.T) []string
		limits   balance.Limits
		code     codes.Code
		status   string
	}{
		"no backend":   {func(*testing.T) []string { return nil }, balance.Limits{}, codes.Unavailable, "budgie; error=destination_unavailable"},
		"dead backend": {func(t *testing.T) []string { return []string{deadAddr(t)} }, balance.Limits{}, codes.Unavailable, "budgie; error=connection_refused"},
		"too large": {func(t *testing.T) []string {
			a, _ := grpcBackend(t, &calls{})
			return []string{a}
		}, balance.Limits{Body: 3}, codes.ResourceExhausted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, balance.Config{Mode: "http", Limits: tc.limits})
			f.set(tc.backends(t)...)
			var header, trailer metadata.MD
			_, err := grpcClient(t, f).UnaryCall(within(t), &pb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
			if status.Code(err) != tc.code {
				t.Errorf("got %v; want %v", err, tc.code)
			}
			if got := first(append(header.Get("proxy-status"), trailer.Get("proxy-status")...)); got != tc.status {
				t.Errorf("Proxy-Status = %q; want %q", got, tc.status)
			}
			h := dialH2(t, f)
			h.ask(t, 1, false, ":method", "POST", "content-type", "application/grpc+proto", "te", "trailers")
			h.WriteData(1, true, make([]byte, 5))
			h.until(t, "answer", func(fr http2.Frame) bool {
				m, ok := fr.(*http2.MetaHeadersFrame)
				if ok && (m.PseudoValue("status") != "200" || !m.StreamEnded()) {
					t.Errorf("got %v; want status 200 and the end of the stream", m)
				}
				return ok
			})
		})
	}
}

// Of two proxies in a row the first learns from the second that a call was not
// delivered, and makes it elsewhere.
func TestGRPCBehindAnotherProxy(t *testing.T) {
	empty, outer := openHTTP(t), openHTTP(t)
	good, _ := grpcBackend(t, &calls{id: "good"})
	outer.set(empty.Addr().String(), good)
	c := grpcClient(t, outer)
	for range 4 {
		if by, err := oneUnary(within(t), c); err != nil || by != "good" {
			t.Errorf("got %q, %v", by, err)
		}
	}
	// What another server says in the name of this proxy is not passed on.
	spoof := openHTTP(t)
	spoof.set(h2Backend(t, func(_ int, h *rawH2, s uint32) {
		h.begin(s, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "5", "proxy-status", "other; error=x, budgie")
	}))
	var trailer metadata.MD
	_, err := grpcClient(t, spoof).EmptyCall(within(t), &pb.Empty{}, grpc.Trailer(&trailer))
	if got := first(trailer.Get("proxy-status")); status.Code(err) != codes.NotFound || got != "other; error=x" {
		t.Errorf("got %v, Proxy-Status %q", err, got)
	}
}

// Calls to a backend of HTTP/1.1 fail, and take it from nobody else.
func TestGRPCToHTTP1Backend(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, says("served")), rawBackend(t, func(_ int, c *net.TCPConn) {
		for r := bufio.NewReader(c); ; {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved")
		}
	}))
	c := grpcClient(t, f)
	for range 10 {
		if _, err := oneUnary(within(t), c); status.Code(err) != codes.Unavailable {
			t.Fatalf("got %v", err)
		}
	}
	for _, s := range f.Status() {
		if !s.Healthy {
			t.Errorf("clients took a backend out: %+v", s)
		}
	}
	for range 4 {
		if got := get(t, f.url("/")); got.body != "served" {
			t.Errorf("got %d %q", got.StatusCode, got.body)
		}
	}
	if !f.log.has("needs a backend that speaks HTTP/2") {
		t.Errorf("no line tells why:\n%s", f.log)
	}
}

// A drain lets calls end, and the client has notice of it.
func TestGRPCShutdown(t *testing.T) {
	addr, _ := grpcBackend(t, &calls{})
	f := openHTTP(t)
	f.set(addr)
	c := grpcClient(t, f)
	s, _ := talk(t, within(t), c)
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	eventually(t, "the listener is closed", func() bool { return refuses(f) })
	for range 3 {
		if err := ping(s, 10000); err != nil {
			t.Errorf("during the drain: %v", err)
		}
	}
	eventually(t, "new calls find nobody", func() bool {
		_, err := oneUnary(within(t), c)
		return status.Code(err) == codes.Unavailable
	})
	s.CloseSend()
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("the end of the stream: %v", err)
	}
	if err := receive(t, done); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// connEnds is told of the ends of a server's connections.
type connEnds chan bool

func (connEnds) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (connEnds) HandleRPC(context.Context, stats.RPCStats)                         {}
func (connEnds) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (c connEnds) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); ok {
		c <- true
	}
}

// A backend that left keeps its streams, and its connection no longer than they
// last.
func TestGRPCBackendLeaves(t *testing.T) {
	ends := make(connEnds, 10)
	addr, _ := grpcBackend(t, &calls{}, grpc.StatsHandler(ends))
	f := openHTTP(t)
	f.set(addr)
	c := grpcClient(t, f)
	s, _ := talk(t, within(t), c)
	f.Update(nil)
	for range 2 {
		if err := ping(s, 1000); err != nil {
			t.Errorf("after it left: %v", err)
		}
	}
	s.CloseSend()
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("the end of the stream: %v", err)
	}
	began := time.Now()
	receive(t, ends)
	f.set(addr)
	if _, err := oneUnary(within(t), c); err != nil {
		t.Error(err)
	}
	f.Update(nil) // while the connection is idle
	receive(t, ends)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v; idle connections end after 4 s", took)
	}
}
