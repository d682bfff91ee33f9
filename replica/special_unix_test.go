//go:build unix

package replica_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// A pipe that went while nobody was connected, in a directory that does not show it, does
// not have the two sides disagree on what changes next.
func TestSpecialFilesOfWhatIsTheSame(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "d/x": replicatest.F("x")})
	when := time.Now().Add(-time.Hour)
	asBefore := func() error { return os.Chtimes(filepath.Join(l.src, "d"), when, when) }
	must(t, syscall.Mkfifo(filepath.Join(l.src, "d/pipe"), 0o600), syscall.Mkfifo(filepath.Join(l.src, "d/stays"), 0o600), asBefore())
	l.start(t)
	l.until(t, "a copy", func(s replica.FollowState) bool { return s.Phase == replica.Synced })
	l.stop()
	must(t, os.Remove(filepath.Join(l.src, "d/pipe")), asBefore())
	l.start(t)
	l.until(t, "the same copy", func(s replica.FollowState) bool { return s.Phase == replica.Synced })
	write(t, l.src, "a", "aa")
	s := l.until(t, "the change", func(s replica.FollowState) bool {
		got, _ := os.ReadFile(filepath.Join(l.dst, "a"))
		return s.Phase == replica.Synced && string(got) == "aa"
	})
	if len(s.NotKept) != 1 || !strings.Contains(s.NotKept[0], `pipes: 1 of them: "d/stays"`) {
		t.Errorf("it names %q", s.NotKept)
	}
}

// Sockets, devices and pipes are named for as long as they are there, and so are no
// longer when they have gone.
func TestFollowSaysWhatIsSpecial(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a")})
	l.start(t)
	l.equal(t)
	pipe := filepath.Join(l.src, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	named := func(s replica.FollowState) bool {
		return s.Phase == replica.Synced && len(s.NotKept) == 1 && strings.Contains(s.NotKept[0], `pipes: 1 of them: "pipe"`)
	}
	l.until(t, "the pipe named", named)
	l.stop()
	l.start(t)
	l.until(t, "the pipe named again", named)
	must(t, os.Remove(pipe))
	l.until(t, "no pipe named", func(s replica.FollowState) bool { return s.Phase == replica.Synced && len(s.NotKept) == 0 })
}
