//go:build unix

package replica_test

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica/replicatest"
)

// becomePipe puts a pipe in the place of a directory, which goes elsewhere.
func becomePipe(t *testing.T, dir, elsewhere string) {
	t.Helper()
	must(t, os.Rename(dir, elsewhere), syscall.Mkfifo(dir, 0o600))
}

// soon waits for what must not wait for anybody who writes into a pipe. It lets what
// does so go, so that the test ends.
func soon(t *testing.T, what, pipe string, done <-chan struct{}) {
	t.Helper()
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	failed := false
	for {
		select {
		case <-done:
			return
		case <-patience.C:
			t.Errorf("%s waits for who writes into a pipe", what)
			failed = true
		}
		if w, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			_ = w.Close()
		}
		if failed {
			patience.Reset(10 * time.Millisecond)
		}
	}
}

// A pipe in the place of a directory keeps no side waiting: neither at the source, while
// that is sent, nor in its own place, nor in a copy, while a file for it is on its way.
func TestPipesForDirectories(t *testing.T) {
	base := t.TempDir()
	src := filepath.Join(base, "src")
	write(t, src, "a", noise('a', 200_000))
	write(t, src, "d/f", "f")
	var once sync.Once
	done := make(chan struct{})
	go func() {
		defer close(done)
		o := copyOver(t.Context(), src, filepath.Join(base, "dst"), func(c net.Conn) net.Conn {
			return &hookConn{Conn: c, onWrite: func(n int) error {
				if n > 1000 {
					once.Do(func() { becomePipe(t, filepath.Join(src, "d"), filepath.Join(base, "d")) })
				}
				return nil
			}}
		})
		if o.sendErr != nil || o.receivedErr != nil {
			t.Errorf("Send: %v, Receive: %v", o.sendErr, o.receivedErr)
		}
	}()
	soon(t, "Send", filepath.Join(src, "d"), done)

	becomePipe(t, src, filepath.Join(base, "away"))
	done = make(chan struct{})
	go func() {
		defer close(done)
		if o := copyOver(t.Context(), src, filepath.Join(base, "dst"), func(c net.Conn) net.Conn { return c }); o.sendErr == nil {
			t.Error("a pipe can be sent")
		}
	}()
	soon(t, "Send of a pipe", src, done)
}

func TestPipeForADirectoryOfTheCopy(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "d/f": replicatest.F("f")})
	pipe := filepath.Join(l.dst, "d")
	var once sync.Once
	l.wrap = func(c net.Conn) net.Conn {
		return &hookConn{Conn: c, onRead: func(n int) error {
			if n > 1000 && l.synced() {
				once.Do(func() { becomePipe(t, pipe, l.dst+"-d") })
			}
			return nil
		}}
	}
	l.start(t)
	l.equal(t)
	staged := t.TempDir()
	write(t, staged, "a", noise('a', 14_000))
	write(t, staged, "d/f", noise('f', 14_000))
	for _, name := range []string{"a", "d/f"} {
		must(t, os.Rename(filepath.Join(staged, name), filepath.Join(l.src, name)))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range l.states { // it ends, since its directory is not what it was
		}
	}()
	soon(t, "Follow", pipe, done)
	l.stop()
	l.start(t)
	l.equal(t)
}
