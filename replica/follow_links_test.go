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

// A name that a file was given by the source is the source's, also where the
// change was cut off and the name is another file's by now.
func TestCutWhileLinkingIsNoConflict(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("1"), "b": replicatest.F("2")})
	l.start(t)
	l.equal(t)
	l.stop()
	at := func(dir, name string) string { return filepath.Join(dir, name) }
	must(t, os.Link(at(l.src, "a"), at(l.src, "l")))

	here, there := net.Pipe()
	hooked := &hookConn{Conn: there, onWrite: func(int) error {
		if _, err := os.Lstat(at(l.dst, "l")); err == nil {
			return io.ErrClosedPipe
		}
		return nil
	}}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = l.from.Send(t.Context(), here, l.src)
		_ = here.Close()
	})
	if err := l.to.Follow(t.Context(), hooked, l.dst, replica.FollowOptions{}); err == nil {
		t.Error("nothing was cut")
	}
	_ = there.Close()
	wg.Wait()
	if _, err := os.Lstat(at(l.dst, "l")); err != nil {
		t.Fatalf("the cut came too early: %v", err)
	}

	must(t, os.Remove(at(l.src, "l")))
	write(t, l.src, "l", "3")
	l.start(t)
	if s := l.equal(t); s.ConflictCount > 0 {
		t.Errorf("conflicts: %+v", s.Conflicts)
	}
}
