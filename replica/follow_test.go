package replica_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// link is a copy that follows, and what it told.
type link struct {
	src, dst string
	from, to *replica.Copier

	// wrap is put around the follower's end of the connection, if it is there.
	wrap        func(net.Conn) net.Conn
	here, there net.Conn
	cancel      context.CancelFunc
	wg          sync.WaitGroup
	states      chan replica.FollowState
	sent, ended error

	mu       sync.Mutex
	last     replica.FollowState
	accepted string
}

// newLink returns a source with some files, and a copy that remembers.
func newLink(t *testing.T, tree replicatest.Tree) *link {
	t.Helper()
	base := t.TempDir()
	l := &link{src: filepath.Join(base, "source"), dst: filepath.Join(base, "copy"), from: replica.New(), to: replica.New(replica.Remember(time.Hour, 1<<30))}
	replicatest.Build(t, l.src, tree)
	return l
}

// start connects the two.
func (l *link) start(t *testing.T) {
	t.Helper()
	l.here, l.there = net.Pipe()
	if l.wrap != nil {
		l.there = l.wrap(l.there)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel = cancel
	l.states = make(chan replica.FollowState, 1024)
	l.wg.Go(func() {
		_, l.sent = l.from.Send(ctx, l.here, l.src)
		_ = l.here.Close()
	})
	l.wg.Go(func() {
		l.ended = l.to.Follow(ctx, l.there, l.dst, replica.FollowOptions{
			Tell: func(s replica.FollowState) {
				l.mu.Lock()
				l.last = s
				l.mu.Unlock()
				select {
				case l.states <- s:
				default:
				}
			},
			Accepted: func() string {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.accepted
			},
		})
		_ = l.there.Close()
		close(l.states)
	})
	t.Cleanup(l.stop)
}

func (l *link) stop() {
	l.cancel()
	_ = l.here.Close()
	_ = l.there.Close()
	l.wg.Wait()
}

// accept is a person's consent to what is held.
func (l *link) accept(held string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted = held
}

// until waits for a state.
func (l *link) until(t *testing.T, what string, is func(replica.FollowState) bool) replica.FollowState {
	t.Helper()
	patience := time.After(30 * time.Second)
	for {
		select {
		case s, open := <-l.states:
			if !open {
				l.stop()
				t.Fatalf("waiting for %s: the end: sender %v, follower %v", what, l.sent, l.ended)
			}
			if s.PendingBytes < 0 || s.PendingFiles < 0 {
				t.Errorf("%d bytes in %d files are pending", s.PendingBytes, s.PendingFiles)
			}
			if is(s) {
				return s
			}
		case <-patience:
			t.Fatalf("waiting for %s: last state %+v; %s", what, l.last, replicatest.Diff(l.src, l.dst))
		}
	}
}

// equal waits until the copy is as its source.
func (l *link) equal(t *testing.T) replica.FollowState {
	t.Helper()
	return l.until(t, "equality", func(s replica.FollowState) bool {
		return s.Phase == replica.Synced && replicatest.Diff(l.src, l.dst) == ""
	})
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

func TestFollowTakesChangesOver(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "dir/b": replicatest.F("b"), "link": {Link: "a"}})
	l.start(t)
	s := l.equal(t)
	if s.Files != 4 || s.Bytes != 2 || s.Digest == "" || s.SyncedAt.IsZero() {
		t.Errorf("the state says %+v", s)
	}
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"new file", func() error { return os.WriteFile(filepath.Join(l.src, "new"), []byte("new"), 0o600) }},
		{"edited", func() error { return os.WriteFile(filepath.Join(l.src, "a"), []byte("edited"), 0o600) }},
		{"new tree", func() error { return os.MkdirAll(filepath.Join(l.src, "x/y/z"), 0o755) }},
		{"renamed", func() error { return os.Rename(filepath.Join(l.src, "dir"), filepath.Join(l.src, "x/y/dir")) }},
		{"mode", func() error { return os.Chmod(filepath.Join(l.src, "x/y"), 0o700) }},
		{"times", func() error { return os.Chtimes(filepath.Join(l.src, "new"), time.Time{}, time.Unix(1, 1)) }},
		{"link", func() error { return os.Symlink("../a", filepath.Join(l.src, "x/link")) }},
		{"removed", func() error { return os.Remove(filepath.Join(l.src, "new")) }},
		{"removed tree", func() error { return os.RemoveAll(filepath.Join(l.src, "x/y/z")) }},
		{"file for a directory", func() error {
			return errors.Join(os.RemoveAll(filepath.Join(l.src, "x/y")), os.WriteFile(filepath.Join(l.src, "x/y"), nil, 0o644), os.WriteFile(filepath.Join(l.src, "more"), []byte("b"), 0o644))
		}},
	} {
		must(t, change.do())
		l.until(t, change.what, func(s replica.FollowState) bool {
			return s.Phase == replica.Synced && replicatest.Diff(l.src, l.dst) == ""
		})
	}
	if l.last.ConflictCount != 0 {
		t.Errorf("conflicts: %+v", l.last.Conflicts)
	}
}

// A copy never loses what its source lost by mistake.
func TestCaseV1SuspendsForAnEmptiedSource(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "dir/b": replicatest.F("b")})
	l.start(t)
	l.equal(t)
	must(t, os.Rename(filepath.Join(l.src, "a"), l.src+"-a"), os.Rename(filepath.Join(l.src, "dir"), l.src+"-dir"))
	s := l.until(t, "suspension", func(s replica.FollowState) bool { return s.Phase == replica.Suspended })
	if !strings.Contains(s.Reason, "empty") || s.Held == "" {
		t.Errorf("the state is %+v", s)
	}
	for _, name := range []string{"a", "dir/b"} {
		if _, err := os.Stat(filepath.Join(l.dst, name)); err != nil {
			t.Error(err)
		}
	}
	must(t, os.Rename(l.src+"-a", filepath.Join(l.src, "a")), os.Rename(l.src+"-dir", filepath.Join(l.src, "dir")))
	l.equal(t)
}

func TestCaseV1SuspendsForASourceThatIsGone(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a")})
	l.start(t)
	l.equal(t)
	must(t, os.Rename(l.src, l.src+"-away"))
	s := l.until(t, "suspension", func(s replica.FollowState) bool { return s.Phase == replica.Suspended })
	if !strings.Contains(s.Reason, "gone") {
		t.Errorf("the reason is %q", s.Reason)
	}
	must(t, os.Rename(l.src+"-away", l.src))
	write(t, l.src, "b", "b")
	l.equal(t)
}

func TestFollowTakesAnotherDirectoryOfTheSameName(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "b": replicatest.F("b")})
	l.start(t)
	l.equal(t)
	replicatest.Build(t, l.src+"-next", replicatest.Tree{"a": replicatest.F("a"), "c": replicatest.F("c")})
	must(t, os.Rename(l.src, l.src+"-last"), os.Rename(l.src+"-next", l.src))
	l.equal(t)
	write(t, l.src, "d", "d")
	l.equal(t)
}

func TestFollowWaitsForConsentToALargeDeletion(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "b": replicatest.F("b"), "c": replicatest.F("c"), "d": replicatest.F("d")})
	l.start(t)
	l.equal(t)
	must(t, os.Rename(filepath.Join(l.src, "d"), filepath.Join(l.src, "e")), os.Remove(filepath.Join(l.src, "a")))
	l.equal(t) // one of four is gone, and one has another name
	must(t, os.Remove(filepath.Join(l.src, "b")), os.Remove(filepath.Join(l.src, "c")))
	s := l.until(t, "suspension", func(s replica.FollowState) bool { return s.Phase == replica.Suspended })
	if !strings.Contains(s.Reason, "2 of 3") || s.Held == "" {
		t.Fatalf("the state is %+v", s)
	}
	if _, err := os.Stat(filepath.Join(l.dst, "b")); err != nil {
		t.Error(err)
	}
	// It is as well when the connection is another.
	l.stop()
	l.start(t)
	s = l.until(t, "suspension", func(s replica.FollowState) bool { return s.Phase == replica.Suspended })
	l.accept(s.Held)
	l.equal(t)
}

// What something else writes into a copy is reported and kept, and the source's is
// put in its place.
func TestCaseV8FollowersWritesAreKept(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "dir/b": replicatest.F("b"), "c": replicatest.F("c")})
	l.start(t)
	l.equal(t)
	write(t, l.dst, "a", "written here")
	write(t, l.dst, "dir/own", "made here")
	conflicts := func(n int) replica.FollowState {
		return l.until(t, "conflicts", func(s replica.FollowState) bool { return s.ConflictCount == n && s.Phase == replica.Synced })
	}
	conflicts(2)
	// What is removed in the midst of a change is put there again without a word: it may
	// have been removed by that.
	must(t, os.Remove(filepath.Join(l.dst, "c")))
	s := conflicts(3)
	l.equal(t)
	kept := map[string]string{}
	for _, c := range s.Conflicts {
		kept[c.Path] = c.Kept
	}
	for name, want := range map[string]string{"a": "written here", "dir/own": "made here"} {
		if got, err := os.ReadFile(kept[name]); err != nil || string(got) != want {
			t.Errorf("%s is kept as %q, %v", name, got, err)
		}
	}
	if where, is := kept["c"]; !is || where != "" {
		t.Errorf("the removed file is reported as %q, %v", where, is)
	}
}

// What no copy can have is said as long as it is there.
func TestFollowSaysWhatIsLeftOut(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a")})
	l.start(t)
	l.equal(t)
	reserved := filepath.Join(l.src, ".budgie-sync-"+strings.Repeat("0", 32))
	must(t, os.Mkdir(reserved, 0o755))
	s := l.until(t, "what is left out", func(s replica.FollowState) bool { return len(s.NotKept) == 1 })
	if !strings.Contains(s.NotKept[0], filepath.Base(reserved)) {
		t.Errorf("it says %q", s.NotKept)
	}
	l.stop()
	l.start(t)
	l.until(t, "the same after a while", func(s replica.FollowState) bool { return len(s.NotKept) == 1 && s.Phase == replica.Synced })
	must(t, os.Remove(reserved))
	l.until(t, "nothing left out", func(s replica.FollowState) bool { return len(s.NotKept) == 0 && s.Phase == replica.Synced })
}

// What is written in a copy is kept, too, where nobody follows meanwhile.
func TestCaseV8FollowersWritesAreKeptLater(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "b": replicatest.F("b"), "big": replicatest.F(strings.Repeat("x", 1<<20))})
	l.start(t)
	l.equal(t)
	l.stop()
	write(t, l.dst, "a", "written here")
	write(t, l.src, "b", "written at the source")
	l.start(t)
	s := l.equal(t)
	if s.ConflictCount != 1 || s.Conflicts[0].Path != "a" {
		t.Fatalf("conflicts: %+v", s.Conflicts)
	}
	if got, err := os.ReadFile(s.Conflicts[0].Kept); err != nil || string(got) != "written here" {
		t.Errorf("kept %q, %v", got, err)
	}
}

func TestFollowKeepsWhatTheSourceReplaces(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("old a"), "b": replicatest.F("old b"), "c": replicatest.F("c")})
	l.start(t)
	l.equal(t)
	write(t, l.src, "a", "new a")
	must(t, os.Remove(filepath.Join(l.src, "b")))
	l.equal(t)
	for name, want := range map[string]string{"a": "old a", "b": "old b"} {
		found, err := filepath.Glob(filepath.Join(l.dst+".kept", "replaced", "*", name))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s is kept as %q, %v", name, found, err)
		}
		if got, err := os.ReadFile(found[0]); err != nil || string(got) != want {
			t.Errorf("%s is kept as %q, %v", name, got, err)
		}
	}
}

// A file with several names is one that changes by any of them, wherever they are.
func TestFollowHardLinks(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a/file": replicatest.F("one"), "b": {}, "c": {}, "keep": replicatest.F("k")})
	l.start(t)
	l.equal(t)
	at := func(name string) string { return filepath.Join(l.src, name) }
	same := func(x, y string) bool {
		a, errA := os.Stat(filepath.Join(l.dst, x))
		b, errB := os.Stat(filepath.Join(l.dst, y))
		return errA == nil && errB == nil && os.SameFile(a, b)
	}
	must(t, os.Link(at("a/file"), at("b/file")))
	l.until(t, "another name", func(replica.FollowState) bool { return same("a/file", "b/file") })
	must(t, os.WriteFile(at("b/file"), []byte("written by the other name"), 0o644))
	l.equal(t)
	must(t, os.Rename(at("a/file"), at("c/file")), os.Chmod(at("b/file"), 0o600))
	l.equal(t)
	l.until(t, "a renamed name", func(replica.FollowState) bool { return same("b/file", "c/file") })
	must(t, os.WriteFile(at("new"), []byte("a file of its own"), 0o644), os.Rename(at("new"), at("b/file")))
	l.equal(t)
	l.until(t, "two files", func(replica.FollowState) bool { return !same("b/file", "c/file") })
	if l.last.ConflictCount != 0 {
		t.Errorf("conflicts: %+v", l.last.Conflicts)
	}
}

// synced reports whether the copy was as its source when it was last heard of.
func (l *link) synced() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.last.SyncedAt.IsZero()
}
