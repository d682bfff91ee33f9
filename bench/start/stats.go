package main

import (
	"math"
	"slices"
	"time"
)

// sample is measurements of the same thing.
type sample []time.Duration

// quantile returns the smallest measurement that is not exceeded by the share q
// of them (nearest rank), 0 of none.
func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func (s sample) median() time.Duration { return s.quantile(0.5) }
func (s sample) p90() time.Duration    { return s.quantile(0.9) }

// ratio returns a / b, 0 where there is no b.
func ratio[T time.Duration | int64](a, b T) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
