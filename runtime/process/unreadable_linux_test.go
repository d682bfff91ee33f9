package process

import (
	"os"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/hostdir"
	"golang.org/x/sys/unix"
)

// TestUnreadableSource looks at a source that may not be read. Root does so
// under another user's file system rights.
func TestUnreadableSource(t *testing.T) {
	// Not t.TempDir, whose parent only its owner may enter.
	dir, err := os.MkdirTemp("", "unreadable")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	goruntime.LockOSThread() // and never unlocked: the thread ends with the test
	if os.Geteuid() == 0 {
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer unix.Setfsuid(0)
	}
	_, err = hostdir.CreateSources([]bunfile.Volume{{Source: dir, Target: "/data"}})
	if err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Fatalf("error is %v", err)
	}
}
