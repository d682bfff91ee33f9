package hostdir

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/internal/lockfile"
)

// A directory goes although others look meanwhile whether its lock is free.
func TestRemoveTreeWhileOthersLook(t *testing.T) {
	for range 200 {
		dir := filepath.Join(t.TempDir(), "container")
		lock := filepath.Join(dir, "supervisor")
		if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
			t.Fatal(err)
		}
		mine, ok, err := lockfile.Try(lock)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-begin
				for range 20 {
					if l, ok, err := lockfile.Try(lock); err == nil && ok {
						_ = l.Close() // the file may be gone
					}
				}
			})
		}
		close(begin)
		if err := RemoveTree(dir); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := mine.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			return
		}
	}
}
