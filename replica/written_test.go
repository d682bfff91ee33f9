package replica_test

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// V8: what something else writes into a copy while changes arrive is kept and
// reported, too, whether the source then replaces it, removes it, or has nothing
// like it.
func TestCaseV8FollowersWritesDuringAChangeAreKept(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "b": replicatest.F("b"), "c": replicatest.F("c"), "dir/d": replicatest.F("d"), "link": {Link: "a"}})
	mine := map[string]string{"a": "mine for a", "b": "mine for b", "new": "mine before", "dir/d": "mine for d", "own": "mine alone"}
	var once sync.Once
	arriving := func(n int) error {
		if n > 1000 && l.synced() {
			once.Do(func() {
				for name, text := range mine {
					write(t, l.dst, name, text)
				}
				must(t, os.Remove(filepath.Join(l.dst, "link")), os.Symlink("mine", filepath.Join(l.dst, "link")))
			})
		}
		return nil
	}
	l.wrap = func(c net.Conn) net.Conn { return &hookConn{Conn: c, onRead: arriving} }
	l.start(t)
	l.equal(t)
	staged := t.TempDir()
	for _, name := range []string{"a", "new", "dir/d"} {
		write(t, staged, name, noise(name[0], 14_000))
		must(t, os.Rename(filepath.Join(staged, name), filepath.Join(l.src, name)))
	}
	must(t, os.Remove(filepath.Join(l.src, "b")), os.Remove(filepath.Join(l.src, "link")))
	s := l.until(t, "conflicts", func(s replica.FollowState) bool { return s.ConflictCount >= len(mine)+1 && s.Phase == replica.Synced })
	s = l.equal(t)
	if s.ConflictCount != len(mine)+1 {
		t.Errorf("%d conflicts: %+v", s.ConflictCount, s.Conflicts)
	}
	for _, c := range s.Conflicts {
		if c.Path == "link" {
			if target, err := os.Readlink(c.Kept); err != nil || target != "mine" {
				t.Errorf("the link is kept as %q, %v", target, err)
			}
			continue
		}
		if got, err := os.ReadFile(c.Kept); err != nil || string(got) != mine[c.Path] {
			t.Errorf("%s is kept as %q, %v", c.Path, got, err)
		}
	}
}
