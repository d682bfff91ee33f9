package benchreport

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Sample is measurements of the same thing.
type Sample []time.Duration

// Quantile returns the smallest measurement that is not exceeded by the share q
// of them (nearest rank), 0 of none.
func (s Sample) Quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Median is what half of the measurements do not exceed, 0 of none.
func (s Sample) Median() time.Duration { return s.Quantile(0.5) }

// P90 is what nine of ten measurements do not exceed, 0 of none.
func (s Sample) P90() time.Duration { return s.Quantile(0.9) }

// Ratio returns a / b, 0 where there is no b.
func Ratio[T time.Duration | int64](a, b T) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Times writes a ratio; "-" stands for 0, which is none.
func Times(f float64) string {
	if f == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", f)
}
