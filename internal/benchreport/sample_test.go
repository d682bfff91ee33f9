package benchreport

import (
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var ten Sample
	for i := 10; i >= 1; i-- {
		ten = append(ten, time.Duration(i))
	}
	for _, c := range []struct {
		s           Sample
		median, p90 time.Duration
	}{
		{nil, 0, 0},
		{Sample{7}, 7, 7},
		{Sample{3, 1, 2}, 2, 3},
		{ten, 5, 9},
	} {
		if m, p := c.s.Median(), c.s.P90(); m != c.median || p != c.p90 {
			t.Errorf("%v: median %d, p90 %d; want %d, %d", c.s, m, p, c.median, c.p90)
		}
	}
	if ten[0] != 10 {
		t.Error("the measurements were put in another order")
	}
}

func TestRatio(t *testing.T) {
	if got := Ratio(int64(3), 2); got != 1.5 || Times(got) != "1.50" {
		t.Errorf("3/2 is %v, written %s", got, Times(got))
	}
	if got := Ratio(time.Second, 0); got != 0 || Times(got) != "-" {
		t.Errorf("a ratio to nothing is %v, written %s", got, Times(got))
	}
}
