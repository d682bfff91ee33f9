// Package testenv says what a test needs of its machine. A missing need skips
// the test for a person on a plain machine, and fails it where everything must
// run.
package testenv

import (
	"os"
	"testing"
)

// RequireAll is the environment variable that turns every skip into a failure.
const RequireAll = "BUDGIE_REQUIRE_ALL"

// Skip ends the test: skipped for the given reason, or failed under RequireAll=1.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv(RequireAll) == "1" {
		t.Fatalf("%s=1, but this test cannot run: %s", RequireAll, reason)
	}
	t.Skip(reason)
}

// NeedRoot skips the test for anyone but root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "needs root")
	}
}
