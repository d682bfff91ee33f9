//go:build linux

package containerd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/budgiehq/budgie/internal/stall"
	"github.com/budgiehq/budgie/runtime"
	"github.com/opencontainers/go-digest"
)

// big is a blob of random bytes.
func big(size int) (runtime.Descriptor, ociimage.Image) {
	data := make([]byte, size)
	_, _ = rand.Read(data)
	d := digest.FromBytes(data)
	return runtime.Descriptor{Digest: d.String(), Size: int64(size)}, ociimage.Image{Blobs: map[digest.Digest][]byte{d: data}}
}

type faultFunc = func(context.Context, runtime.Descriptor, int64, io.ReadCloser) (io.ReadCloser, error)

// at limits a source to so many bytes per second, after the given fault.
func at(rate int64, fault faultFunc) faultFunc {
	return func(ctx context.Context, blob runtime.Descriptor, offset int64, r io.ReadCloser) (io.ReadCloser, error) {
		if fault != nil {
			var err error
			if r, err = fault(ctx, blob, offset, r); err != nil {
				return nil, err
			}
		}
		return faulty{r, func(p []byte) (int, error) {
			n, err := r.Read(p[:min(len(p), 32<<10)])
			timer := time.NewTimer(time.Duration(n) * time.Second / time.Duration(rate))
			defer timer.Stop()
			select {
			case <-timer.C:
				return n, err
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}}, nil
	}
}

// striped reads a blob and checks what comes out, as far as it comes. It returns
// how far, and how long it took.
func striped(t *testing.T, size int, faults ...faultFunc) (int64, time.Duration, []*elsewhere) {
	t.Helper()
	blob, img := big(size)
	want := img.Blobs[digest.Digest(blob.Digest)]
	var from []runtime.BlobSource
	var all []*elsewhere
	for i, fault := range faults {
		e := having(fmt.Sprintf("source %d", i), img)
		e.fault = fault
		all, from = append(all, e), append(from, ranges{e})
	}
	began := time.Now()
	var got bytes.Buffer
	guard := stall.Guard{Window: 30 * time.Second, MinBytes: 30 << 10}
	n, _, err := readStriped(t.Context(), guard, blob, 0, newSupplies(from), func(p []byte) error { got.Write(p); return nil })
	if err != nil || n != int64(got.Len()) || !bytes.Equal(got.Bytes(), want[:n]) {
		t.Fatalf("after %d bytes, of which %d were written: %v", n, got.Len(), err)
	}
	return n, time.Since(began), all
}

const mebi = 1 << 20

// Two sources with equal links bring a blob in half the time, and one that is
// much slower does not hold up the other.
func TestStripesAddUp(t *testing.T) {
	for _, c := range []struct {
		what  string
		rates []int64
		most  time.Duration
	}{
		{"one", []int64{mebi}, 21 * time.Second},
		{"two", []int64{mebi, mebi}, 11 * time.Second},
		{"three", []int64{mebi, mebi, mebi}, 8 * time.Second},
		{"a fast and a slow one", []int64{4 * mebi, mebi / 4}, 5500 * time.Millisecond},
		{"a fast and a very slow one", []int64{4 * mebi, 8 << 10}, 8 * time.Second},
		{"very fast and very slow ones", []int64{100 * mebi, 100 * mebi, 8 << 10, 8 << 10}, 3 * time.Second},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var faults []faultFunc
				for _, rate := range c.rates {
					faults = append(faults, at(rate, nil))
				}
				n, took, all := striped(t, 20*mebi, faults...)
				sent := int64(0)
				for _, e := range all {
					sent += e.sent()
				}
				t.Logf("%v for %d bytes, of which %d were read", took, n, sent)
				if n != 20*mebi || took > c.most || sent > n*115/100 {
					t.Errorf("%d bytes took %v with %d bytes read; want %v", n, took, sent, c.most)
				}
			})
		})
	}
}

// Case I3: a source that never answers costs not much more than a second, also
// if it is in no hurry to say so.
func TestCaseI3DeadSource(t *testing.T) {
	dead := func(ctx context.Context, _ runtime.Descriptor, _ int64, _ io.ReadCloser) (io.ReadCloser, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		if n, took, _ := striped(t, 20*mebi, dead, at(10*mebi, nil), dead); n != 20*mebi || took > 3200*time.Millisecond {
			t.Errorf("%d bytes took %v", n, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if n, took, _ := striped(t, 500, dead, at(10*mebi, nil)); n != 500 || took > 1100*time.Millisecond {
			t.Errorf("%d bytes took %v", n, took)
		}
	})
}

// Whatever the sources do, as long as one of them is sound: all comes, in order,
// and hardly anything twice.
func TestStripesOfFaultySources(t *testing.T) {
	seed := [2]uint64{uint64(time.Now().UnixNano()), 1}
	t.Logf("seed %v", seed)
	r := mathrand.New(mathrand.NewPCG(seed[0], seed[1]))
	for range 15 {
		size := 1 + r.Int64N(24*mebi)
		faults := []faultFunc{at(mebi, nil)}
		for range r.IntN(4) {
			where := r.Int64N(size)
			faults = append(faults, []faultFunc{at(mebi, cutAt(where)), at(mebi, stallAt(where)), at(1+r.Int64N(8*mebi), nil),
				func(context.Context, runtime.Descriptor, int64, io.ReadCloser) (io.ReadCloser, error) {
					return nil, errors.New("connection refused")
				}}[r.IntN(4)])
		}
		r.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		synctest.Test(t, func(t *testing.T) {
			n, took, all := striped(t, int(size), faults...)
			sent := int64(0)
			for _, e := range all {
				sent += e.sent()
			}
			if n != size || sent > size+size/10+mebi {
				t.Errorf("of %d bytes %d came, in %v, and %d were read", size, n, took, sent)
			}
		})
	}
}

// Where all sources fail, what came until then is written.
func TestStripesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The second source may be asked for what it lacks, and be given up, before the
		// first one has failed.
		if n, _, _ := striped(t, 8*mebi, cutAt(3*mebi), cutAt(5*mebi)); n < 3*mebi || n > 5*mebi {
			t.Errorf("%d bytes came", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		blob, img := big(8 * mebi)
		a, b := having("a", img), having("b", img)
		a.fault, b.fault = at(mebi, nil), at(mebi, stallAt(5*mebi))
		full := errors.New("the disk is full")
		n, _, err := readStriped(t.Context(), stall.Guard{}, blob, 0, newSupplies([]runtime.BlobSource{ranges{a}, ranges{b}}), func([]byte) error { return full })
		if n != 0 || !errors.Is(err, full) {
			t.Errorf("when nothing can be written: %d, %v", n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		n, _, err = readStriped(ctx, stall.Guard{}, blob, 0, newSupplies([]runtime.BlobSource{ranges{a}, ranges{b}}), func([]byte) error { return nil })
		if n == 0 || n == blob.Size || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("interrupted after %d bytes: %v", n, err)
		}
	})
}
