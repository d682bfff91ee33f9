package recent

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Buckets follow each other without gaps, and none is wider than a quarter of what
// is in it.
func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "time"))
		b := bucketOf(d)
		if b < 0 || b >= buckets {
			t.Fatalf("%v is in bucket %d", d, b)
		}
		if b == buckets-1 {
			return
		}
		if u := upper(b); u <= d || float64(u-d) > max(float64(d)/4, float64(unit)) {
			t.Fatalf("%v is in a bucket up to %v", d, u)
		}
		if b > 0 && upper(b-1) > d {
			t.Fatalf("%v is in a bucket from %v on", d, upper(b-1))
		}
	})
}

// Percentiles are those of the times, up to the width of a bucket.
func TestPercentiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfN(rapid.Int64Range(1, int64(time.Minute)), 1, 200).Draw(t, "times")
		var m Meter
		for _, d := range times {
			m.Add(time.Duration(d), false, false)
		}
		slices.Sort(times)
		r := m.Read()
		for part, got := range map[float64]time.Duration{.5: r.P50, .99: r.P99} {
			want := times[int(math.Ceil(part*float64(len(times))))-1]
			if float64(got) < float64(want) || float64(got) > 1.25*float64(want)+float64(unit) {
				t.Fatalf("percentile %v of %v is %v, want %v", part, times, got, time.Duration(want))
			}
		}
	})
}

// Rates follow, what is old is forgotten, totals stay.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		if r := m.Read(); r != (Reading{}) {
			t.Errorf("of nothing it says %+v", r)
		}
		near := func(what string, got, want float64) {
			t.Helper()
			if math.Abs(got-want) > .1*want {
				t.Errorf("%s is %v, want %v", what, got, want)
			}
		}
		for i := range 3000 { // 100 a second, for half a minute
			m.Add(10*time.Millisecond, i%10 == 0, i%100 == 0)
			if i == 200 {
				near("the rate after two seconds", m.Read().Rate, 100)
			}
			time.Sleep(10 * time.Millisecond)
		}
		r := m.Read()
		near("the rate", r.Rate, 100)
		near("the rate of failures", r.Failures, 10)
		if r.P50 < 10*time.Millisecond || r.P50 > 13*time.Millisecond || r.P99 != r.P50 {
			t.Errorf("percentiles %v, %v", r.P50, r.P99)
		}
		total := Count{3000, 300, 30}
		if r.Total != total {
			t.Errorf("total %+v", r.Total)
		}
		time.Sleep(5 * time.Second)
		near("the rate after five quiet seconds", m.Read().Rate, 50)
		time.Sleep(7 * time.Second)
		if r := m.Read(); r != (Reading{Total: total}) {
			t.Errorf("after the window it says %+v", r)
		}
		time.Sleep(time.Hour)
		m.Add(time.Millisecond, false, false)
		near("the rate of one request", m.Read().Rate, .1)
	})
}

func BenchmarkAdd(b *testing.B) {
	var m Meter
	b.ReportAllocs()
	for b.Loop() {
		m.Add(time.Millisecond, false, false)
	}
}
