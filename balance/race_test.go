//go:build race

package balance_test

// allocations is how many the fast path may make per request: under the race detector
// pools forget some of what they hold.
const allocations = 3.0
