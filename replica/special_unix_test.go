//go:build unix

package replica_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

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
