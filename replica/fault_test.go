package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// hookConn calls hooks before it reads and writes.
type hookConn struct {
	net.Conn
	onRead, onWrite func(n int) error
}

func (c *hookConn) Read(p []byte) (int, error) {
	if c.onRead != nil {
		if err := c.onRead(len(p)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

func (c *hookConn) Write(p []byte) (int, error) {
	if c.onWrite != nil {
		if err := c.onWrite(len(p)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// outcome is what the sides of a copy returned.
type outcome struct {
	sent, received       replica.Report
	sendErr, receivedErr error
}

// copyOver copies over a connection whose sender's end wrap may change.
func copyOver(ctx context.Context, src, dst string, wrap func(net.Conn) net.Conn) (o outcome) {
	here, there := net.Pipe()
	here = wrap(here)
	var wg sync.WaitGroup
	wg.Go(func() {
		o.sent, o.sendErr = replica.New().Send(ctx, here, src)
		_ = here.Close()
	})
	o.received, o.receivedErr = replica.New().Receive(ctx, there, dst, replica.ReceiveOptions{})
	_ = there.Close()
	wg.Wait()
	return o
}

// state returns mode, time and content of every file of a tree, and fails the
// test for files under way.
func state(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if strings.HasPrefix(d.Name(), ".budgie-") {
			t.Errorf("%s is left", path)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		files[rel] = info.Mode().String() + info.ModTime().String() + string(content)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

func TestCutAtEveryByteLeavesOldOrNew(t *testing.T) {
	f := replicatest.F
	before := replicatest.Tree{"same": f("same"), "changed": f("old"), "moved": f("moved"), "extra": f("x"),
		"file": f("was a file"), "dir/x": f("was in a directory"),
		"h1": f("hard"), "h2": {HardLink: "h1"}, "h3": f("other"), "h4": {HardLink: "h3"}}
	after := replicatest.Tree{"same": f("same"), "changed": f("new"), "dir2/moved": f("moved"), "new": f("new file"),
		"file/now": f("a directory"), "dir": f("now a file"), "link": {Link: "new"},
		"h1": f("hard"), "h2": f("own"), "h3": {HardLink: "h1"}, "h4": f("other")}
	base := t.TempDir()
	src, dst := filepath.Join(base, "src"), filepath.Join(base, "dst")
	replicatest.Build(t, src, after)
	replicatest.Build(t, dst, before)
	fresh, old := state(t, src), state(t, dst)

	step := 23
	if testing.Short() {
		step = 50
	}
	cuts := 0
	for cut := 0; ; cut += step {
		replicatest.Build(t, dst, before)
		left := cut
		spend := func(n int) error {
			if left -= n; left < 0 {
				return io.ErrClosedPipe
			}
			return nil
		}
		o := copyOver(t.Context(), src, dst, func(c net.Conn) net.Conn { return &oneByteConn{c, spend} })
		if o.sendErr == nil && o.receivedErr == nil {
			break
		}
		cuts++
		checkOldOrNew(t, cut, state(t, dst), old, fresh, o)
		o = copyOver(t.Context(), src, dst, func(c net.Conn) net.Conn { return c })
		if o.sendErr != nil || o.receivedErr != nil {
			t.Fatalf("the copy after a cut at byte %d: %v, %v", cut, o.sendErr, o.receivedErr)
		}
		if diff := replicatest.Diff(src, dst); diff != "" {
			t.Fatalf("the copy after a cut at byte %d: %s", cut, diff)
		}
	}
	if cuts < 10 {
		t.Errorf("only %d cuts", cuts)
	}
}

func checkOldOrNew(t *testing.T, cut int, got, old, fresh map[string]string, o outcome) {
	t.Helper()
	for path, s := range got {
		if s != old[path] && s != fresh[path] {
			t.Errorf("cut at byte %d: %s is neither old nor new: %q", cut, path, s)
		}
	}
	for path := range old {
		// The receiver may have been done when the last frame was lost.
		if _, ok := got[path]; !ok && replicaDiffers(got, fresh) {
			t.Errorf("cut at byte %d: %s is gone, but the copy is not complete (%v)", cut, path, o.receivedErr)
		}
	}
}

func replicaDiffers(got, fresh map[string]string) bool {
	for path, s := range fresh {
		if got[path] != s {
			return true
		}
	}
	return len(got) != len(fresh)
}

// oneByteConn spends every byte in both directions, and passes what it can
// before it breaks.
type oneByteConn struct {
	net.Conn
	spend func(n int) error
}

func (c *oneByteConn) Read(p []byte) (int, error) {
	if err := c.spend(1); err != nil {
		return 0, err
	}
	return c.Conn.Read(p[:1])
}

func (c *oneByteConn) Write(p []byte) (n int, err error) {
	for i := range p {
		if err := c.spend(1); err != nil {
			return i, err
		}
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// A file that came before the cut does not come again.
func TestNextReceiveGoesOn(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{
		"a": replicatest.F(noise('a', 300_000)), "b": replicatest.F(noise('b', 300_000))})
	var sent atomic.Int64
	o := copyOver(t.Context(), src, dst, func(c net.Conn) net.Conn {
		return &hookConn{Conn: c, onWrite: func(n int) error {
			if sent.Add(int64(n)) > 500_000 {
				return io.ErrClosedPipe
			}
			return nil
		}}
	})
	if o.receivedErr == nil {
		t.Fatal("the cut went unnoticed")
	}
	if got := state(t, dst); len(got) != 1 {
		t.Errorf("want a alone after the cut, got %d files", len(got))
	}
	o = copyOver(t.Context(), src, dst, func(c net.Conn) net.Conn { return c })
	if o.receivedErr != nil || o.received.Transferred != 300_000 {
		t.Errorf("want b alone sent, got %+v, %v", o.received, o.receivedErr)
	}
}

// changes are what may happen to a source under the sender's hands. Each gets
// how often it has happened.
var changes = map[string]func(dir string, n int) error{
	"file rewritten": func(dir string, n int) error {
		return os.WriteFile(filepath.Join(dir, "f"), []byte(noise(byte(n), 200_000)), 0o644)
	},
	"file grows": func(dir string, n int) error {
		f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("more")
		return errors.Join(err, f.Close())
	},
	"file truncated": func(dir string, n int) error { return os.Truncate(filepath.Join(dir, "f"), int64(1000-n)) },
	"another file appears": func(dir string, n int) error {
		return os.WriteFile(filepath.Join(dir, "g"+strings.Repeat("x", n)), nil, 0o644)
	},
	"file moves": func(dir string, n int) error {
		return os.Rename(filepath.Join(dir, "f"+strings.Repeat("x", n-1)), filepath.Join(dir, "f"+strings.Repeat("x", n)))
	},
	"file becomes a directory and back": func(dir string, n int) error {
		p := filepath.Join(dir, "f")
		if err := os.Remove(p); err != nil {
			return err
		}
		if n%2 == 1 {
			return os.Mkdir(p, 0o755)
		}
		return os.WriteFile(p, []byte("again"), 0o644)
	},
	"link changes": func(dir string, n int) error {
		_ = os.Remove(filepath.Join(dir, "l"))
		return os.Symlink(strings.Repeat("x", n), filepath.Join(dir, "l"))
	},
	"mode changes": func(dir string, n int) error {
		return os.Chmod(filepath.Join(dir, "f"), fs.FileMode(0o600+n))
	},
	"content changes, times are put back": func(dir string, n int) error {
		p := filepath.Join(dir, "f")
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		err = os.WriteFile(p, bytes.Repeat([]byte{byte(n)}, int(info.Size())), 0o644)
		return errors.Join(err, os.Chtimes(p, info.ModTime(), info.ModTime()))
	},
}

// changing makes a source and copies it while change happens to it a number
// of times: after each manifest, before the files are sent.
func changing(t *testing.T, change func(dir string, n int) error, times int) (src, dst string, o outcome) {
	t.Helper()
	src, dst = filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"f": replicatest.F(noise('a', 200_000)), "h": replicatest.F("h")})
	replicatest.Build(t, dst, replicatest.Tree{"f": replicatest.F("old"), "precious": replicatest.F("p")})
	manifests, done := 0, 0
	o = copyOver(t.Context(), src, dst, func(c net.Conn) net.Conn {
		wrote := false
		return &hookConn{Conn: c,
			onWrite: func(int) error { wrote = true; return nil },
			onRead: func(int) error {
				if !wrote {
					return nil
				}
				wrote = false
				if manifests++; manifests > 0 && done < times {
					done++
					return change(src, done)
				}
				return nil
			}}
	})
	return src, dst, o
}

func TestChangingSourceIsSentAgain(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			src, dst, o := changing(t, change, 2)
			if o.sendErr != nil || o.receivedErr != nil {
				t.Fatal(o.sendErr, o.receivedErr)
			}
			if diff := replicatest.Diff(src, dst); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSourceThatNeverHoldsStill(t *testing.T) {
	// Of the others each file can be what it was at some moment, if not all at the
	// same one.
	torn := []string{"file rewritten", "file truncated", "file moves", "content changes, times are put back"}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			_, dst, o := changing(t, change, 1000)
			if !slices.Contains(torn, name) && o.sendErr == nil && o.receivedErr == nil {
				if o.sent.Digest != o.received.Digest {
					t.Errorf("got %+v and %+v", o.sent, o.received)
				}
				return
			}
			if !errors.Is(o.sendErr, replica.ErrChanged) || !errors.Is(o.receivedErr, replica.ErrChanged) {
				t.Errorf("want ErrChanged on both sides, got %v and %v", o.sendErr, o.receivedErr)
			}
			if got := state(t, dst); !strings.HasSuffix(got["precious"], "p") {
				t.Error("something was removed though not everything arrived")
			}
		})
	}
}

func TestSomebodyWritesIntoTheCopy(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"a": replicatest.F("1"), "b": replicatest.F(noise('2', 300_000))})
	replicatest.Build(t, dst, replicatest.Tree{"a": replicatest.F("1"), "extra": replicatest.F("x")})
	var once sync.Once
	var sent atomic.Int64
	o := copyOver(t.Context(), src, dst, func(c net.Conn) net.Conn {
		return &hookConn{Conn: c, onWrite: func(n int) error {
			if sent.Add(int64(n)) > 200_000 { // a was looked at before b was asked for
				once.Do(func() {
					if err := os.WriteFile(filepath.Join(dst, "a"), []byte("9"), 0o644); err != nil {
						t.Error(err)
					}
				})
			}
			return nil
		}}
	})
	if !errors.Is(o.receivedErr, replica.ErrVerify) || !errors.Is(o.sendErr, replica.ErrVerify) {
		t.Errorf("want ErrVerify on both sides, got %v and %v", o.receivedErr, o.sendErr)
	}
	if !strings.Contains(fmt.Sprint(o.receivedErr), `"a" has another content`) {
		t.Errorf("the error does not say where: %v", o.receivedErr)
	}
}

func TestContextEndsInTheMiddle(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"b": replicatest.F(noise('2', 1_000_000))})
	ctx, cancel := context.WithCancel(t.Context())
	var sent atomic.Int64
	o := copyOver(ctx, src, dst, func(c net.Conn) net.Conn {
		return &hookConn{Conn: c, onWrite: func(n int) error {
			if sent.Add(int64(n)) > 500_000 {
				cancel()
			}
			return nil
		}}
	})
	if !errors.Is(o.sendErr, context.Canceled) || !errors.Is(o.receivedErr, context.Canceled) {
		t.Errorf("want context.Canceled on both sides, got %v and %v", o.sendErr, o.receivedErr)
	}
	if got := state(t, dst); len(got) != 0 {
		t.Errorf("%d files after an interrupted copy of one", len(got))
	}
}

// noise is a content that nobody can compress, the same for the same seed.
func noise(seed byte, size int) string {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(content) // never fails
	return string(content)
}
