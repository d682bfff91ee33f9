package replica_test

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// A copy whose source changes a file each time it is sent is not as its source, and does
// not say so.
func TestFileThatChangesEachTimeIsNotSynced(t *testing.T) {
	const size = 200_000
	l := newLink(t, replicatest.Tree{"f": replicatest.F(noise(0, size))})
	var armed, seen atomic.Bool
	var first time.Time // of the transfers, once seen is true
	seed := byte(0)
	change := func() error {
		seed++
		f, err := os.OpenFile(filepath.Join(l.src, "f"), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(noise(seed, size)) // in its place, as a database does
		return err
	}
	l.wrap = func(c net.Conn) net.Conn {
		return &hookConn{Conn: c, onRead: func(n int) error {
			if n < 30_000 || !armed.Load() {
				return nil
			}
			if !seen.Load() {
				first = time.Now()
				seen.Store(true)
			}
			return change()
		}}
	}
	l.start(t)
	l.equal(t)
	must(t, change())
	armed.Store(true)
	var times int
	l.until(t, "what it says of the copy", func(s replica.FollowState) bool {
		if seen.Load() && s.Phase == replica.Synced && s.SyncedAt.After(first) {
			t.Error("a copy that is not as its source is synced")
			return true
		}
		if s.Phase == replica.Syncing && s.Reason != "" {
			times++
		}
		return times >= 3
	})
	armed.Store(false)
	l.equal(t)
}

// What is written into a copy after it was compared with its source, and before it is
// watched, is found.
func TestWrittenBeforeTheCopyIsWatched(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a")})
	var once sync.Once
	l.wrap = func(c net.Conn) net.Conn {
		return &hookConn{Conn: c, onRead: func(n int) error {
			if n == 32 { // the source confirms the digest
				once.Do(func() { write(t, l.dst, "mine", "mine") })
			}
			return nil
		}}
	}
	l.start(t)
	l.until(t, "the conflict", func(s replica.FollowState) bool { return s.ConflictCount == 1 && s.Phase == replica.Synced })
	l.equal(t)
}
