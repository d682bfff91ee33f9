package lockfile

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A lock file that was removed and made anew is another lock: whoever still
// holds the old one must not be joined by those who lock the new one unnoticed.
func TestTryWantsTheFileThatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, ok, err := Try(path)
	if err != nil || !ok {
		t.Fatalf("lock: %v, %v", ok, err)
	}
	defer l.Unlock()
	if same, err := isAt(l, path); err != nil || !same {
		t.Errorf("the file locked is the one at its path: %v, %v", same, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if same, err := isAt(l, path); err != nil || same {
		t.Errorf("the file locked was removed, but counts as the one at its path: %v, %v", same, err)
	}
}

// Holders that remove the file they have locked still exclude each other.
func TestTryExcludesWhileFilesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var holders atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				l, ok, err := Try(path)
				if err != nil {
					t.Error(err)
					return
				}
				if !ok {
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				runtime.Gosched()
				holders.Add(-1) // with the file goes the lock
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
