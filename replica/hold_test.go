package replica_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// numbered returns a link whose copy is as its source, of so many files: f0, f1 and so on.
func numbered(t *testing.T, n int) *link {
	t.Helper()
	tree := replicatest.Tree{}
	for i := range n {
		tree[fmt.Sprint("f", i)] = replicatest.F(fmt.Sprint(i))
	}
	l := newLink(t, tree)
	l.start(t)
	l.equal(t)
	return l
}

// settles waits until the copy is as its source, or does not become so.
func (l *link) settles(t *testing.T) replica.FollowState {
	t.Helper()
	return l.until(t, "the change", func(s replica.FollowState) bool {
		return s.Phase == replica.Suspended || s.Phase == replica.Synced && replicatest.Diff(l.src, l.dst) == ""
	})
}

// A source that never had anything has lost nothing when something else writes into its
// copy: that is a conflict as any other.
func TestEmptySourceOfACopyThatIsWrittenTo(t *testing.T) {
	l := newLink(t, replicatest.Tree{})
	l.start(t)
	l.equal(t)
	write(t, l.dst, "mine", "mine")
	s := l.until(t, "the conflict", func(s replica.FollowState) bool {
		return s.Phase == replica.Suspended || s.Phase == replica.Synced && s.ConflictCount > 0
	})
	if s.Phase == replica.Suspended {
		t.Errorf("the copy is suspended: %s", s.Reason)
	}
}

// A copy that waits for consent says so again when its source was away for a moment.
func TestReasonOfAHoldAfterTheSourceWasAway(t *testing.T) {
	l := numbered(t, 10)
	for i := range 8 {
		must(t, os.Remove(filepath.Join(l.src, fmt.Sprint("f", i))))
	}
	held := l.until(t, "the hold", func(s replica.FollowState) bool { return strings.Contains(s.Reason, "8 of 10") })
	must(t, os.Rename(l.src, l.src+"-away"))
	l.until(t, "the absence", func(s replica.FollowState) bool { return strings.Contains(s.Reason, "gone") })
	must(t, os.Rename(l.src+"-away", l.src))
	s := l.until(t, "the hold again", func(s replica.FollowState) bool { return s.Reason == held.Reason })
	if s.Phase != replica.Suspended || s.Held != held.Held {
		t.Errorf("the state is %+v", s)
	}
}

// A directory of symbolic links that gets another name is not lost.
func TestLinksThatMoveAreNotLost(t *testing.T) {
	tree := replicatest.Tree{"x": replicatest.F("x")}
	for i := range 10 {
		tree[fmt.Sprint("d/l", i)] = replicatest.Node{Link: fmt.Sprint("target", i)}
	}
	l := newLink(t, tree)
	l.start(t)
	l.equal(t)
	must(t, os.Rename(filepath.Join(l.src, "d"), filepath.Join(l.src, "e")))
	s := l.settles(t)
	if s.Phase == replica.Suspended {
		t.Errorf("the copy is suspended: %s", s.Reason)
	}
}

// Consent counts also where the source goes on to change, as long as it loses little of
// what the consent was to.
func TestConsentToASourceThatChanges(t *testing.T) {
	tree := replicatest.Tree{"stays": replicatest.F("stays")}
	// In directories, which go at once: a look must not come in between.
	for reason, files := range map[string]int{"14 of 20": 14, "18 of 20": 4, "19 of 20": 1} {
		for i := range files {
			tree[fmt.Sprint(reason, "/", i)] = replicatest.F(reason)
		}
	}
	l := newLink(t, tree)
	l.start(t)
	l.equal(t)
	remove := func(reason string) string {
		t.Helper()
		must(t, os.Rename(filepath.Join(l.src, reason), l.src+"-"+reason))
		return l.until(t, reason, func(s replica.FollowState) bool { return strings.Contains(s.Reason, reason) }).Held
	}
	first := remove("14 of 20")
	second := remove("18 of 20") // which are more than half of the six that were left
	if first == second {
		t.Error("what has lost much more is held under the same name")
	}
	write(t, l.src, "log", "a line")
	remove("19 of 20")
	l.accept(second)
	l.equal(t)
}

// A deletion that takes a while is held as one that does not, though little goes at a
// time; and what goes while as much comes is none.
func TestLossLittleByLittle(t *testing.T) {
	l := numbered(t, 10)
	for i := range 12 { // a file that is another one each time
		write(t, l.src, fmt.Sprint("new", i), fmt.Sprint("new ", i))
		must(t, os.RemoveAll(filepath.Join(l.src, fmt.Sprint("new", i-1))))
		if s := l.settles(t); s.Phase == replica.Suspended {
			t.Fatalf("what comes and goes is held: %s", s.Reason)
		}
	}
	for i := range 6 {
		must(t, os.Remove(filepath.Join(l.src, fmt.Sprint("f", i))))
		s := l.settles(t)
		if held := s.Phase == replica.Suspended; held != (i == 5) || held && !strings.Contains(s.Reason, "6 of 11") {
			t.Fatalf("after %d of 11 files went the state is %+v", i+1, s)
		}
		if s.Held != "" {
			l.accept(s.Held)
		}
	}
	l.equal(t)
}
