package replica_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica/replicatest"
)

// A log that something appends to all the time reaches the copy, as it was a moment
// before.
func TestFileThatGrowsAllTheTimeArrives(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a")})
	write(t, l.src, "log", strings.Repeat("a line of a log\n", 1<<16))
	l.start(t)
	l.equal(t)
	f, err := os.OpenFile(filepath.Join(l.src, "log"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				_, _ = f.WriteString(strings.Repeat("one more line\n", 10))
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	first, err := os.Stat(filepath.Join(l.dst, "log"))
	must(t, err)
	grown, size := 0, first.Size()
	for patience := time.After(15 * time.Second); grown < 3; {
		select {
		case <-patience:
			t.Fatalf("it grew %d times", grown)
		case <-time.After(10 * time.Millisecond):
			if now, err := os.Stat(filepath.Join(l.dst, "log")); err == nil && now.Size() > size {
				grown, size = grown+1, now.Size()
			}
		}
	}
}
