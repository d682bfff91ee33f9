package balance_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// BenchmarkProxy measures a request through the HTTP mode, client and backends
// in the same process included; BenchmarkDirect is the same without the proxy.
func BenchmarkProxy(b *testing.B) {
	for _, alg := range []bunfile.Algorithm{bunfile.RoundRobin, bunfile.LeastConnections} {
		b.Run(string(alg), func(b *testing.B) {
			f := open(b, balance.Config{Mode: bunfile.ModeHTTP, Algorithm: alg})
			body := strings.Repeat("x", 1024)
			f.set(httpBackend(b, says(body)), httpBackend(b, says(body)), httpBackend(b, says(body)))
			benchmark(b, f.url("/"), len(body))
		})
	}
}

func BenchmarkDirect(b *testing.B) {
	body := strings.Repeat("x", 1024)
	benchmark(b, "http://"+httpBackend(b, says(body))+"/", len(body))
}

func benchmark(b *testing.B, url string, size int) {
	client := newClient(b)
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		resp, err := client.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n != int64(size) || resp.StatusCode != http.StatusOK {
			b.Fatalf("status %d, %d bytes, %v", resp.StatusCode, n, err)
		}
	}
}
