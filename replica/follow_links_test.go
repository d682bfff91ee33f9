package replica_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// followUntilLinked follows until the copy has a name l, and then cuts the
// connection. It calls before once the sender has sent its manifest.
func followUntilLinked(t *testing.T, l *link, before func()) {
	t.Helper()
	here, there := net.Pipe()
	told := false
	from := &hookConn{Conn: here, onWrite: func(n int) error {
		told = told || n > 64 // more than a hello
		return nil
	}, onRead: func(int) error {
		if told && before != nil {
			before()
			before = nil
		}
		return nil
	}}
	to := &hookConn{Conn: there, onWrite: func(int) error {
		if _, err := os.Lstat(filepath.Join(l.dst, "l")); err == nil {
			return io.ErrClosedPipe
		}
		return nil
	}}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = l.from.Send(t.Context(), from, l.src)
		_ = here.Close()
	})
	if err := l.to.Follow(t.Context(), to, l.dst, replica.FollowOptions{}); err == nil {
		t.Error("nothing was cut")
	}
	_ = there.Close()
	wg.Wait()
	if _, err := os.Lstat(filepath.Join(l.dst, "l")); err != nil {
		t.Fatalf("the cut came too early: %v", err)
	}
}

// A name that a file was given by the source is the source's, also where the
// change was cut off and the name is another file's by now.
func TestCutWhileLinkingIsNoConflict(t *testing.T) {
	for what, before := range map[string]func(l *link) func(){
		"unchanged": func(*link) func() { return nil },
		// The file stays as it was, for the time being, and gets the name.
		"changed while it was sent": func(l *link) func() {
			write(t, l.src, "a", "22")
			return func() { write(t, l.src, "a", "333") }
		},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLink(t, replicatest.Tree{"a": replicatest.F("1"), "b": replicatest.F("b")})
			l.start(t)
			l.equal(t)
			l.stop()
			must(t, os.Link(filepath.Join(l.src, "a"), filepath.Join(l.src, "l")))
			followUntilLinked(t, l, before(l))
			must(t, os.Remove(filepath.Join(l.src, "l")))
			write(t, l.src, "l", "another")
			l.start(t)
			if s := l.equal(t); s.ConflictCount > 0 {
				t.Errorf("conflicts: %+v", s.Conflicts)
			}
		})
	}
}

// What is written by a name that comes and goes at once reaches the copy, where the
// file has another name of which the system says nothing.
func TestFollowWritesByNamesThatPass(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a/file": replicatest.F("old"), "b": {}})
	l.start(t)
	l.equal(t)
	passing := filepath.Join(l.src, "b", "link")
	must(t, os.Link(filepath.Join(l.src, "a", "file"), passing), os.WriteFile(passing, []byte("new text"), 0o644), os.Remove(passing))
	l.until(t, "what was written", func(replica.FollowState) bool {
		got, err := os.ReadFile(filepath.Join(l.dst, "a", "file"))
		return err == nil && string(got) == "new text"
	})
}
