// Package testenv says what a test needs of its machine. A missing need skips
// the test for a person on a plain machine, and fails it where everything must
// run.
package testenv

import "os"

// RequireAll is the environment variable that turns every skip into a failure.
const RequireAll = "BUDGIE_REQUIRE_ALL"

// T is what is told about a missing need: a [testing.TB], or what stands for one
// in a program that is no test.
type T interface {
	Helper()
	Skip(args ...any)
	Fatalf(format string, args ...any)
}

// Skip ends the test: skipped for the given reason, or failed under RequireAll=1.
func Skip(t T, reason string) {
	t.Helper()
	if os.Getenv(RequireAll) == "1" {
		t.Fatalf("%s=1, but this test cannot run: %s", RequireAll, reason)
	}
	t.Skip(reason)
}

// NeedRoot skips the test for anyone but root.
func NeedRoot(t T) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "needs root")
	}
}
