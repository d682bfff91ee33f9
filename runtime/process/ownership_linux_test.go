package process

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/testenv"
)

// TestRootInAnothersDirectory: what root does in a user's data directory leaves
// nothing in it that the user could not read, write and remove.
func TestRootInAnothersDirectory(t *testing.T) {
	testenv.NeedRoot(t)
	const nobody = 65534
	home := t.TempDir()
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, dir: filepath.Join(home, "data", "process")}
	f.Runtime = open(t, f.dir)
	defer func() { f.Close() }()
	what := spec("graceful", "0")
	what.Image.Workdir = "/some/where"
	what.Volumes = []bunfile.Volume{{Source: t.TempDir(), Target: "/deep/data", Mode: bunfile.ReadWrite}}
	id := f.run(what)
	f.firstLine(id)
	want := func(when string) {
		t.Helper()
		n := 0
		err := filepath.WalkDir(filepath.Join(home, "data"), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			n++
			if info.Sys().(*syscall.Stat_t).Uid != nobody {
				t.Errorf("%s, %s does not belong to the user", when, path)
			}
			return nil
		})
		if err != nil || n < 14 {
			t.Errorf("%s, looked at %d files: %v", when, n, err)
		}
	}
	want("while it runs")
	if err := os.Remove(f.path(id, "io", "stdout")); err != nil {
		t.Fatal(err)
	}
	f.Close()
	f.Runtime = open(t, f.dir)
	if _, err := f.Adopt(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	want("adopted")
	if err := f.Stop(t.Context(), id, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	want("stopped")
	if err := f.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
}
