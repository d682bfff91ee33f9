package replica_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica/replicatest"
	"github.com/budgiehq/budgie/replica/watch"
)

// A copy whose directory is moved away is not kept up to date where nobody looks:
// what its path leads to is.
func TestCopyThatIsMovedAwayBeginsAnew(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a")})
	l.start(t)
	l.equal(t)
	must(t, os.Rename(l.dst, l.dst+".elsewhere"), os.Mkdir(l.dst, 0o755))
	for patience := time.After(30 * time.Second); ; {
		select {
		case _, open := <-l.states:
			if open {
				continue
			}
		case <-patience:
			t.Fatal("it is followed on")
		}
		break
	}
	l.stop()
	if !errors.Is(l.ended, watch.ErrRootGone) {
		t.Errorf("it ended with %v", l.ended)
	}
	write(t, l.src, "b", "b")
	l.start(t)
	l.equal(t)
	if _, err := os.Stat(filepath.Join(l.dst+".elsewhere", "b")); err == nil {
		t.Error("what was moved away is a copy still")
	}
}
