//go:build linux || darwin

package process

import (
	"os"
	goruntime "runtime"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	runtimetest.Program()
	supervisor()
	// Where coverage is measured, the containers' programs want a place for
	// theirs, or they complain on their standard error.
	dir, err := os.MkdirTemp("", "coverage")
	if err != nil {
		panic(err)
	}
	os.Setenv("GOCOVERDIR", dir)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// spec is a container that runs the test program.
func spec(args ...string) bunfile.Spec {
	return runtimetest.Spec("suite", program(args...)...)
}

func program(args ...string) []string {
	return runtimetest.ProgramCommand(self(), args...)
}

// self is the test binary, by its absolute path.
func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

func open(t *testing.T, dir string, opts ...Option) *Runtime {
	t.Helper()
	r, err := New(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestConformance(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Harness {
		dir := t.TempDir()
		return runtimetest.Harness{
			Runtime: open(t, dir),
			Reopen:  func(t *testing.T) runtimetest.Runtime { return open(t, dir) },
			Spec:    spec,
			Command: program,
			// TestNoStats is for the rest.
			WithoutStats: goruntime.GOOS != "linux",
		}
	})
}
