//go:build !race

package balance_test

// allocations is how many the fast path may make per request. Timers and the garbage
// collector have some of their own.
const allocations = 0.2
