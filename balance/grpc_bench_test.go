package balance_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// BenchmarkGRPC makes small calls, 64 at a time on one connection of a client,
// without and with a frontend between.
func BenchmarkGRPC(b *testing.B) {
	addr, _ := grpcBackend(b, &calls{})
	f := openHTTP(b)
	f.set(addr)
	for name, at := range map[string]string{"direct": addr, "proxy": f.Addr().String()} {
		b.Run(name, func(b *testing.B) {
			conn, err := grpc.NewClient("passthrough:///"+at, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			c := pb.NewTestServiceClient(conn)
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if _, err := c.EmptyCall(context.Background(), &pb.Empty{}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
