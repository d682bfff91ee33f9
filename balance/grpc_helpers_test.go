package balance_test

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// calls is the service of gRPC's interoperability tests, as far as they are about
// what a proxy can break: grpc/doc/interop-test-descriptions.md.
type calls struct {
	pb.UnimplementedTestServiceServer
	id    string
	began chan context.Context // of streams both ways, where not nil
}

func (s *calls) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

func (s *calls) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if st := in.GetResponseStatus(); st != nil {
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	in1, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.Pairs("x-initial", first(in1.Get("x-initial")), "x-backend", s.id))
	grpc.SetTrailer(ctx, metadata.Pairs("x-trailing-bin", first(in1.Get("x-trailing-bin"))))
	return &pb.SimpleResponse{Payload: &pb.Payload{Body: make([]byte, in.GetResponseSize())}}, nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (s *calls) StreamingOutputCall(in *pb.StreamingOutputCallRequest, out pb.TestService_StreamingOutputCallServer) error {
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *calls) StreamingInputCall(in pb.TestService_StreamingInputCallServer) error {
	sum := 0
	for {
		m, err := in.Recv()
		if err == io.EOF {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(m.GetPayload().GetBody())
	}
}

func (s *calls) FullDuplexCall(both pb.TestService_FullDuplexCallServer) error {
	if s.began != nil {
		s.began <- both.Context()
	}
	both.SendHeader(metadata.Pairs("x-backend", s.id))
	for {
		m, err := both.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if st := m.GetResponseStatus(); st != nil {
			return status.Error(codes.Code(st.GetCode()), st.GetMessage())
		}
		for _, p := range m.GetResponseParameters() {
			if err := both.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
				return err
			}
		}
	}
}

// grpcBackend starts a server and returns its address.
func grpcBackend(t testing.TB, s *calls, opts ...grpc.ServerOption) (string, *grpc.Server) {
	t.Helper()
	ln := listen(t)
	srv := grpc.NewServer(opts...)
	pb.RegisterTestServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() { srv.Stop(); receive(t, served) })
	return ln.Addr().String(), srv
}

// grpcClient is a client of a frontend, on one connection.
func grpcClient(t testing.TB, f *front, opts ...grpc.DialOption) pb.TestServiceClient {
	t.Helper()
	if len(opts) == 0 {
		opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	c, err := grpc.NewClient("passthrough:///"+f.Addr().String(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return pb.NewTestServiceClient(c)
}

// within bounds what calls may take.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// talk opens a stream both ways and waits for its header.
func talk(t testing.TB, ctx context.Context, c pb.TestServiceClient) (pb.TestService_FullDuplexCallClient, string) {
	t.Helper()
	s, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Header()
	if err != nil {
		t.Fatal(err)
	}
	return s, first(h.Get("x-backend"))
}

// ping says something on a stream and waits for the answer.
func ping(s pb.TestService_FullDuplexCallClient, size int32) error {
	err := s.Send(&pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: size}}})
	if err != nil {
		return err
	}
	m, err := s.Recv()
	if err == nil && len(m.GetPayload().GetBody()) != int(size) {
		err = status.Errorf(codes.DataLoss, "got %d bytes of %d", len(m.GetPayload().GetBody()), size)
	}
	return err
}

// oneUnary makes a call and returns who answered.
func oneUnary(ctx context.Context, c pb.TestServiceClient) (string, error) {
	var h metadata.MD
	_, err := c.UnaryCall(ctx, &pb.SimpleRequest{}, grpc.Header(&h))
	return first(h.Get("x-backend")), err
}
