package replica

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Several connections together go as fast as the limit says, and no faster.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, each, conns = 1 << 20, 2 << 20, 3
		for name, limits := range map[string][2]*limiter{"sending": {{rate: rate}, nil}, "receiving": {nil, {rate: rate}}} {
			begin := time.Now()
			var wg sync.WaitGroup
			for range conns {
				here, there := net.Pipe()
				wg.Go(func() {
					_, _ = limit(t.Context(), here, limits[0], nil).Write(make([]byte, each))
					_ = here.Close()
				})
				wg.Go(func() {
					if n, err := io.Copy(io.Discard, limit(t.Context(), there, nil, limits[1])); n != each || err != nil {
						t.Errorf("%s: %d bytes, %v", name, n, err)
					}
				})
			}
			wg.Wait()
			want := conns * each / rate * time.Second
			if took := time.Since(begin); took > want || took < want-limitBurst {
				t.Errorf("%s: it took %s, want %s", name, took, want)
			}
		}
	})
}

// What was not used for long is not made up for.
func TestRateLimitBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 1000}
		time.Sleep(time.Hour)
		begin := time.Now()
		for range 10 {
			if err := l.take(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != time.Second-limitBurst {
			t.Errorf("a second's worth took %s after a pause", took)
		}
	})
}

func TestRateLimitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		err := (&limiter{rate: 1}).take(ctx, 1000)
		if !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

// The option reaches the connections of copies, in both directions.
func TestRateLimitOfCopies(t *testing.T) {
	base := t.TempDir()
	noise := make([]byte, 400<<10)
	_, _ = rand.NewChaCha8([32]byte{6}).Read(noise)
	write(t, filepath.Join(base, "src", "f"), string(noise))
	for name, c := range map[string][2]*Copier{"sending": {New(WithRateLimit(1 << 20)), New()}, "receiving": {New(), New(WithRateLimit(1 << 20))}} {
		begin := time.Now()
		sentBytes(t, c[0], c[1], filepath.Join(base, "src"), filepath.Join(base, strings.ToUpper(name)))
		if took := time.Since(begin); took < 290*time.Millisecond {
			t.Errorf("%s: 400 KiB at 1 MiB/s took %s", name, took)
		}
	}
	if l := New(WithRateLimit(1)).sending; l.rate != MinRate {
		t.Errorf("a rate of 1 counts as %d", l.rate)
	}
	if New(WithRateLimit(1<<20), WithRateLimit(0)).receiving != nil {
		t.Error("0 limits something")
	}
}
