package replica_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// A change of a file with holes costs as little, and leaves them.
func TestChangesLeaveHoles(t *testing.T) {
	const size = 64 << 20
	content, _ := randomBytes(t, 1<<20)
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"f": replicatest.F(""), "other": replicatest.F("other")})
	f, err := os.OpenFile(filepath.Join(src, "f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	put := func(b []byte, at int64) {
		_, err := f.WriteAt(b, at)
		must(t, err)
	}
	must(t, f.Truncate(size))
	put(content, 20<<20)
	put(content, 50<<20)
	from := replica.New()
	_, _, err = replicatest.Copy(t.Context(), from, src, dst)
	must(t, err)
	put([]byte("changed"), 20<<20+500_000)
	put([]byte("in a hole"), 40<<20)
	report, _, err := replicatest.Copy(t.Context(), from, src, dst)
	must(t, err)
	if diff := replicatest.Diff(src, dst); diff != "" {
		t.Error(diff)
	}
	if report.Transferred == 0 || report.Transferred > 2*few {
		t.Errorf("%d bytes were sent", report.Transferred)
	}
	if n := allocated(t, filepath.Join(dst, "f")); n > 3<<20 {
		t.Errorf("the copy occupies %d bytes", n)
	}
	g, err := os.Open(filepath.Join(dst, "f"))
	must(t, err)
	defer g.Close()
	got := make([]byte, 9)
	if _, err := io.ReadFull(io.NewSectionReader(g, 40<<20, 9), got); err != nil || string(got) != "in a hole" {
		t.Errorf("%q, %v", got, err)
	}
}
