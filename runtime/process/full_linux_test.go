package process

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/lifecycle"
)

// alone runs a test in a process of its own, where it fills no disk of others (go test
// keeps a log of what the tests use), and reports whether it did: what called it is over
// then.
func alone(t *testing.T) (done bool) {
	t.Helper()
	const variable = "BUDGIE_TEST_ALONE"
	if os.Getenv(variable) != "" {
		return false
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return true
}

// fillDisk makes writes to files fail until room is called.
func fillDisk(t *testing.T) (room func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(l unix.Rlimit) {
		t.Helper()
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: 0, Max: limit.Max})
	return func() { set(limit) }
}

// A container whose release could not be recorded, as on a full disk, is supervised again
// by who tried, on the same disk.
func TestReleaseOnAFullDisk(t *testing.T) {
	if alone(t) {
		return
	}
	f := newFixture(t)
	id := f.run(spec("sleep"))
	room := fillDisk(t)
	defer room()
	if err := f.Release(t.Context(), id); err == nil {
		t.Error("a release works that cannot be recorded")
	}
	if st, err := f.Adopt(t.Context(), id); err != nil || st.State != lifecycle.Running {
		t.Errorf("Adopt returned %+v, %v", st, err)
	}
	if f.current(id) == nil {
		t.Error("nobody supervises it")
	}
}
