package balance_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// All kinds of calls pass, through one proxy and through two.
func TestCaseB8GRPC(t *testing.T) {
	addr, _ := grpcBackend(t, &calls{id: "a"})
	one := openHTTP(t)
	one.set(deadAddr(t), addr)
	two := openHTTP(t)
	two.set(one.Addr().String())
	server, client := certified(t)
	over := open(t, balance.Config{Mode: "http", TLS: server})
	over.set(addr)
	tls := grpc.WithTransportCredentials(credentials.NewTLS(client))
	for name, c := range map[string]pb.TestServiceClient{"one": grpcClient(t, one), "two": grpcClient(t, two), "TLS": grpcClient(t, over, tls)} {
		t.Run(name, func(t *testing.T) {
			t.Run("unary", func(t *testing.T) { unaryCalls(t, c) })
			t.Run("server streaming", func(t *testing.T) { serverStreaming(t, c) })
			t.Run("client streaming", func(t *testing.T) { clientStreaming(t, c) })
			t.Run("both ways", func(t *testing.T) { bothWays(t, c) })
			t.Run("status", func(t *testing.T) { statuses(t, c) })
		})
	}
	for _, f := range []*front{one, two, over} {
		for _, s := range f.Status() {
			if s.Addr == addr && (s.Failures != 0 || s.Active != 0) {
				t.Errorf("status = %+v", s)
			}
		}
	}
}

func unaryCalls(t *testing.T, c pb.TestServiceClient) {
	ctx := within(t)
	if _, err := c.EmptyCall(ctx, &pb.Empty{}); err != nil {
		t.Error(err)
	}
	in := metadata.AppendToOutgoingContext(ctx, "x-initial", "hello", "x-trailing-bin", "\x00\xab\xff")
	var header, trailer metadata.MD
	got, err := c.UnaryCall(in, &pb.SimpleRequest{ResponseSize: 314159, Payload: &pb.Payload{Body: make([]byte, 271828)}},
		grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || len(got.GetPayload().GetBody()) != 314159 {
		t.Errorf("got %d bytes, %v", len(got.GetPayload().GetBody()), err)
	}
	if first(header.Get("x-initial")) != "hello" || first(trailer.Get("x-trailing-bin")) != "\x00\xab\xff" {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
}

func serverStreaming(t *testing.T, c pb.TestServiceClient) {
	sizes := []int32{31415, 9, 2653, 58979, 0}
	var ask pb.StreamingOutputCallRequest
	for _, s := range sizes {
		ask.ResponseParameters = append(ask.ResponseParameters, &pb.ResponseParameters{Size: s})
	}
	s, err := c.StreamingOutputCall(within(t), &ask)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range sizes {
		m, err := s.Recv()
		if err != nil || len(m.GetPayload().GetBody()) != int(want) {
			t.Errorf("got %d bytes of %d, %v", len(m.GetPayload().GetBody()), want, err)
		}
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func clientStreaming(t *testing.T, c pb.TestServiceClient) {
	s, err := c.StreamingInputCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{27182, 8, 1828, 45904, 200000} {
		if err := s.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, size)}}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.CloseAndRecv(); err != nil || got.GetAggregatedPayloadSize() != 274922 {
		t.Errorf("got %v, %v", got, err)
	}
}

func bothWays(t *testing.T, c pb.TestServiceClient) {
	s, _ := talk(t, within(t), c) // before anything is said
	for _, size := range []int32{31415, 9, 0, 2653, 58979, 300000} {
		if err := ping(s, size); err != nil {
			t.Fatal(err)
		}
	}
	s.CloseSend()
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	empty, err := c.FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	empty.CloseSend()
	if _, err := empty.Recv(); err != io.EOF {
		t.Errorf("a stream without messages: %v", err)
	}
}

func statuses(t *testing.T, c pb.TestServiceClient) {
	special := "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n100%"
	want := &pb.EchoStatus{Code: int32(codes.Aborted), Message: special}
	is := func(err error) bool {
		return status.Code(err) == codes.Aborted && status.Convert(err).Message() == special
	}
	if _, err := c.UnaryCall(within(t), &pb.SimpleRequest{ResponseStatus: want}); !is(err) {
		t.Errorf("a status alone: %v", err)
	}
	// The server ends a stream that the client keeps open.
	s, _ := talk(t, within(t), c)
	if err := s.Send(&pb.StreamingOutputCallRequest{ResponseStatus: want}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !is(err) {
		t.Errorf("a status after a header: %v", err)
	}
	if _, err := c.UnimplementedCall(within(t), &pb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("what the server does not have: %v", err)
	}
}

// Each call of a client's one connection is balanced by itself: a thousand
// streams stand open at once, and all are spoken on.
func TestGRPCThousandStreams(t *testing.T) {
	const streams, backends = 1000, 4
	f := openHTTP(t)
	var addrs []string
	for i := range backends {
		addr, _ := grpcBackend(t, &calls{id: fmt.Sprint(i)})
		addrs = append(addrs, addr)
	}
	f.set(addrs...)
	c, ctx := grpcClient(t, f), within(t)
	var wg, open sync.WaitGroup
	open.Add(streams)
	counted := make(chan struct{}) // closed when it is known how many are where
	for range streams {
		wg.Go(func() {
			s, err := c.FullDuplexCall(ctx)
			if err == nil {
				_, err = s.Header()
			}
			open.Done()
			<-counted
			if err == nil {
				err = ping(s, 100)
			}
			if err == nil {
				s.CloseSend()
				_, err = s.Recv()
			}
			if err != io.EOF {
				t.Error(err)
			}
		})
	}
	open.Wait()
	for _, s := range f.Status() {
		if s.Active != streams/backends {
			t.Errorf("%d streams at %s; want %d", s.Active, s.ID, streams/backends)
		}
	}
	close(counted)
	wg.Wait()
	eventually(t, "the end of all", func() bool {
		return !slices.ContainsFunc(f.Status(), func(s balance.BackendStatus) bool { return s.Active != 0 || s.Failures != 0 })
	})
}

// A client that cancels, or whose deadline passes, is gone for the backend, too,
// which knows the deadline.
func TestGRPCCancel(t *testing.T) {
	began := make(chan context.Context, 1)
	addr, _ := grpcBackend(t, &calls{began: began})
	f := openHTTP(t)
	f.set(addr)
	c := grpcClient(t, f)
	for name, opened := range map[string]func() (context.Context, context.CancelFunc){
		"cancel": func() (context.Context, context.CancelFunc) { return context.WithCancel(within(t)) },
		"deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(within(t), 300*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := opened()
			defer cancel()
			s, _ := talk(t, ctx, c)
			if err := ping(s, 1); err != nil {
				t.Fatal(err)
			}
			there, want := receive(t, began), codes.DeadlineExceeded
			if d, ok := there.Deadline(); !ok || time.Until(d) > patience {
				t.Errorf("the backend knows of deadline %v, %v", d, ok)
			}
			if name == "cancel" {
				want = codes.Canceled
				cancel()
			}
			receive(t, there.Done())
			if _, err := s.Recv(); status.Code(err) != want {
				t.Errorf("the client gets %v", err)
			}
			eventually(t, "the end of the call", func() bool { s := f.Status()[0]; return s.Active == 0 && s.Failures == 0 })
		})
	}
}

// A stream on which nobody says anything lives on.
func TestGRPCSilence(t *testing.T) {
	addr, _ := grpcBackend(t, &calls{})
	f := openHTTP(t, balance.WithStall(50*time.Millisecond), balance.WithResponseTimeout(50*time.Millisecond))
	f.set(addr)
	s, _ := talk(t, within(t), grpcClient(t, f))
	for range 3 {
		receive(t, time.After(120*time.Millisecond))
		if err := ping(s, 100000); err != nil {
			t.Fatal(err)
		}
	}
}
