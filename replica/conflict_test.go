package replica_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// V8: conflicts are reported for as long as they are kept, whoever connects meanwhile.
func TestCaseV8ConflictsAreReportedUntilTheyAreRemoved(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "b": replicatest.F("b")})
	l.start(t)
	l.equal(t)
	write(t, l.dst, "dir/mine", "mine")
	l.until(t, "the conflict", func(s replica.FollowState) bool { return s.ConflictCount == 1 && s.Phase == replica.Synced })
	l.stop()
	write(t, l.dst, "a", "mine, too")
	l.start(t)
	s := l.equal(t)
	if s.ConflictCount != 2 || len(s.Conflicts) != 2 || s.Conflicts[0].Path != "dir/mine" || s.Conflicts[1].Path != "a" || time.Since(s.Conflicts[0].At) > time.Minute {
		t.Errorf("after the next connection %d are reported: %+v", s.ConflictCount, s.Conflicts)
	}
	for _, c := range s.Conflicts {
		if _, err := os.Stat(c.Kept); err != nil {
			t.Error(err)
		}
	}
	l.stop()
	must(t, os.RemoveAll(filepath.Join(l.dst+".kept", "conflicts")))
	l.start(t)
	if s := l.equal(t); s.ConflictCount != 0 || len(s.Conflicts) != 0 {
		t.Errorf("after their removal %d are reported: %+v", s.ConflictCount, s.Conflicts)
	}
}

// A copy that something writes into again and again does not fill the disk with what
// is kept, nor loses any of it.
func TestConflictsHaveABound(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a")})
	l.to = replica.New(replica.Remember(time.Hour, 3*4096))
	l.start(t)
	l.equal(t)
	l.stop()
	var texts []string
	for i := range 10 {
		texts = append(texts, fmt.Sprint("mine ", i))
		write(t, l.dst, "a", texts[i])
		l.start(t)
		for range l.states {
			if l.synced() {
				break
			}
		}
		l.stop()
		if errors.Is(l.ended, replica.ErrConflicts) {
			break
		}
	}
	if !errors.Is(l.ended, replica.ErrConflicts) || len(texts) < 4 {
		t.Errorf("after %d changes: %v", len(texts), l.ended)
	}
	kept := keptTexts(t, l.dst)
	if now, err := os.ReadFile(filepath.Join(l.dst, "a")); err != nil || string(now) != texts[len(texts)-1] {
		t.Errorf("the copy has %q, %v", now, err)
	}
	for _, text := range texts[:len(texts)-1] {
		if !kept[text] {
			t.Errorf("%q is lost", text)
		}
	}
	must(t, os.RemoveAll(filepath.Join(l.dst+".kept", "conflicts")))
	l.start(t)
	l.equal(t)
}

// What is put into a directory while the follower removes it, as it is not of the source,
// is kept as what was there before is, and does not end the following.
func TestConflictInADirectoryThatGoes(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a")})
	l.start(t)
	l.equal(t)
	for i := range 4 {
		for j := range 200 {
			dir := filepath.Join(l.dst, "dir", fmt.Sprint(i, j/20))
			if os.MkdirAll(dir, 0o755) == nil {
				_ = os.WriteFile(filepath.Join(dir, fmt.Sprint(j)), nil, 0o644) // the directory may have gone
			}
		}
		l.until(t, "the end of the conflicts", func(s replica.FollowState) bool {
			left, err := filepath.Glob(filepath.Join(l.dst, "dir"))
			return err == nil && left == nil && s.Phase == replica.Synced && s.ConflictCount > i
		})
	}
}
