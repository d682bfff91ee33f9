package balance_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

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

// BenchmarkUDP measures a datagram and its answer through the UDP mode, client
// and backend in the same process included; BenchmarkDirectUDP is the same
// without the proxy.
func BenchmarkUDP(b *testing.B) {
	for _, size := range []int{64, 1200, 65507} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			f := openUDP(b)
			f.set(newUDPBackend(b, "127.0.0.1:0", same).addr())
			benchmarkUDP(b, f.Addr().String(), size)
		})
	}
}

func BenchmarkDirectUDP(b *testing.B) {
	benchmarkUDP(b, newUDPBackend(b, "127.0.0.1:0", same).addr(), 1200)
}

func benchmarkUDP(b *testing.B, addr string, size int) {
	c := dialUDP(b, addr)
	if err := c.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	question, buf := make([]byte, size), make([]byte, 1<<16)
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		_, werr := c.Write(question)
		n, rerr := c.Read(buf)
		if err := errors.Join(werr, rerr); err != nil || n != size {
			b.Fatalf("%d bytes, %v", n, err)
		}
	}
}
