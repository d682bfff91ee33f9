package replica

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/internal/testenv"
)

// What gets no other name, here because it is somebody else's, is kept as a copy.
func TestAtticWithoutHardLinks(t *testing.T) {
	testenv.NeedRoot(t) // to be somebody else
	base := t.TempDir()
	write(t, filepath.Join(base, "copy/f"), "old")
	a := (&beside{dir: filepath.Join(base, "copy")}).attic()
	a.begin()
	if err := os.Chmod(filepath.Dir(base), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base, 0o777); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Join(base, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	kept := make(chan error)
	go func() {
		runtime.LockOSThread() // and it ends with the goroutine
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			kept <- err
			return
		}
		_, err := a.keep(root, atticReplaced, "f", true)
		kept <- err
	}()
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(a.dir, atticReplaced, a.stamp, "f"), filepath.Join(base, "copy/f")} {
		if text, err := os.ReadFile(name); err != nil || string(text) != "old" {
			t.Errorf("%s has %q, %v", name, text, err)
		}
	}
}
