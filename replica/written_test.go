package replica_test

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

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

// What something else puts into a copy when that is about to be compared with its source
// is kept and reported, and the copy is compared again.
func TestWrittenWhileVerified(t *testing.T) {
	base := t.TempDir()
	src, dst := filepath.Join(base, "src"), filepath.Join(base, "copy")
	write(t, src, "a", "1")
	times := 0
	receive := func(tell func(replica.Progress)) replica.Report {
		here, there := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := replica.New().Send(t.Context(), here, src); err != nil {
				t.Errorf("Send: %v", err)
			}
			_ = here.Close()
		})
		report, err := replica.New(replica.Remember(time.Hour, 1<<20)).Receive(t.Context(), there, dst, replica.ReceiveOptions{Tell: tell})
		_ = there.Close()
		wg.Wait()
		if err != nil {
			t.Fatalf("Receive: %v", err)
		}
		return report
	}
	receive(nil)
	write(t, src, "a", "22")
	report := receive(func(p replica.Progress) {
		if p.Step == replica.Verifying && p.Files == 0 && times < 3 {
			times++
			write(t, dst, filepath.Join("dir", "mine"), "mine")
		}
	})
	if times != 3 || len(report.Conflicts) != 3 {
		t.Fatalf("after %d times the conflicts are %+v", times, report.Conflicts)
	}
	for _, c := range report.Conflicts {
		if got, err := os.ReadFile(c.Kept); c.Path != "dir/mine" || err != nil || string(got) != "mine" {
			t.Errorf("%s is kept as %q, %v", c.Path, got, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dst, "*")); err != nil || len(left) != 1 {
		t.Errorf("the copy has %q, %v", left, err)
	}
}
