//go:build unix

package bunfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/testenv"
)

// A FIFO without a writer would make an ordinary open wait for ever.
func TestLoadDoesNotWaitForAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.bun")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bunfile.Load(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
}

func TestLoadWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root may read everything; as another user, this runs everywhere.
		if os.Getenv(testenv.RequireAll) == "1" {
			t.Log("root reads every file: nothing to test")
			return
		}
		t.Skip("root may read everything")
	}
	path := filepath.Join(t.TempDir(), "web.bun")
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := bunfile.Load(path); err == nil || !strings.Contains(err.Error(), "check its permissions") {
		t.Error(err)
	}
}
