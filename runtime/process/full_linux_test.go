package process

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/lifecycle"
)

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
