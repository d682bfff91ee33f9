// Package watchtest is the conformance suite of watchers.
package watchtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica/watch"
)

// Open begins to watch, as [watch.New] does.
type Open func(root string, opts ...watch.Option) (watch.Watcher, error)

// Run tests what open makes. Options come before those of a test. An
// implementation that is exact names each change: none of its batches says
// "everything" where nothing overflows.
func Run(t *testing.T, open Open, exact bool, opts ...watch.Option) {
	s := suite{exact: exact, open: func(root string, more ...watch.Option) (watch.Watcher, error) {
		return open(root, append(append([]watch.Option{watch.WithQuiet(5 * time.Millisecond)}, opts...), more...)...)
	}}
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"Kinds", s.testKinds},
		{"NewDirectories", s.testNewDirectories},
		{"MovedDirectories", s.testMovedDirectories},
		{"QuickTurns", s.testQuickTurns},
		{"Flapping", s.testFlapping},
		{"Links", s.testLinks},
		{"Bursts", s.testBursts},
		{"StartUp", s.testStartUp},
		{"NoReceiver", s.testNoReceiver},
		{"TooMany", s.testTooMany},
		{"RootGone", s.testRootGone},
		{"NoRoot", s.testNoRoot},
		{"Close", s.testClose},
		{"Random", s.testRandom},
	} {
		t.Run(c.name, c.test)
	}
}

type suite struct {
	open  Open
	exact bool
}

// must is for steps that a test prepares.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(path, content string) error { return os.WriteFile(path, []byte(content), 0o644) }

// checkExact fails if a batch said "everything".
func (s suite) checkExact(t *testing.T, f *Follower) {
	t.Helper()
	for _, b := range f.Batches {
		if b.All && s.exact {
			t.Errorf("a batch says everything: %v", b.Reason)
		}
	}
}

func (s suite) testKinds(t *testing.T) {
	root := t.TempDir()
	in := func(name string) string { return filepath.Join(root, name) }
	must(t, os.Mkdir(in("dir"), 0o755), os.Mkdir(in("dir/sub"), 0o755), write(in("dir/file"), "1"), write(in("dir/other"), "2"))
	f := Follow(t, s.open, root)
	open, err := os.OpenFile(in("dir/file"), os.O_RDWR, 0)
	must(t, err)
	defer open.Close()
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"create", func() error { return write(in("new"), "") }},
		{"write", func() error { _, err := open.WriteString("while it is open"); return err }},
		{"write in place", func() error { _, err := open.WriteAt([]byte("W"), 0); return err }},
		{"truncate", func() error { return open.Truncate(3) }},
		{"chmod", func() error { return os.Chmod(in("dir/file"), 0o600) }},
		{"times", func() error { return os.Chtimes(in("dir/file"), time.Time{}, time.Unix(5, 7)) }},
		{"chmod of a directory", func() error { return os.Chmod(in("dir/sub"), 0o700) }},
		{"times of a directory", func() error { return os.Chtimes(in("dir/sub"), time.Time{}, time.Unix(5, 7)) }},
		{"times of the root", func() error { return os.Chtimes(root, time.Time{}, time.Unix(5, 7)) }},
		{"mkdir", func() error { return os.Mkdir(in("dir/sub/sub"), 0o755) }},
		{"rename over another", func() error { return os.Rename(in("dir/other"), in("new")) }},
		{"move", func() error { return os.Rename(in("new"), in("dir/sub/sub/new")) }},
		{"symbolic link", func() error { return os.Symlink("sub", in("dir/link")) }},
		{"hard link", func() error { return os.Link(in("dir/sub/sub/new"), in("hard")) }},
		{"remove", func() error { return os.Remove(in("dir/sub/sub/new")) }},
		{"rmdir", func() error { return os.Remove(in("dir/sub/sub")) }},
		{"file instead of a directory", func() error { return errors.Join(os.Remove(in("dir/sub")), write(in("dir/sub"), "")) }},
		{"directory instead of a file", func() error { return errors.Join(os.Remove(in("dir/sub")), os.Mkdir(in("dir/sub"), 0o755)) }},
		{"remove all", func() error { return os.RemoveAll(in("dir")) }},
	} {
		t.Run(step.name, func(t *testing.T) {
			must(t, step.do())
			f.Converge(t)
		})
	}
	s.checkExact(t, f)
}

func (s suite) testNewDirectories(t *testing.T) {
	root := t.TempDir()
	f := Follow(t, s.open, root)
	for i := range 100 {
		dir := filepath.Join(root, fmt.Sprint(i), "b", "c")
		must(t, os.MkdirAll(dir, 0o755), write(filepath.Join(dir, "file"), "at once"))
	}
	f.Converge(t)
	f.Hears(t)
	s.checkExact(t, f)
}

func (s suite) testMovedDirectories(t *testing.T) {
	root, beside := t.TempDir(), t.TempDir()
	in := func(name string) string { return filepath.Join(root, name) }
	must(t, os.MkdirAll(in("a/b/c"), 0o755), os.MkdirAll(in("x"), 0o755))
	f := Follow(t, s.open, root)
	steps := []struct {
		name string
		do   func() error
	}{
		{"away, and another of its name", func() error {
			return errors.Join(os.Rename(in("a"), filepath.Join(beside, "a")), os.MkdirAll(in("a/b"), 0o755))
		}},
		{"inside, and another of its name", func() error {
			return errors.Join(os.Rename(in("a"), in("x/a")), os.MkdirAll(in("a/b/c/d"), 0o755))
		}},
		{"in from elsewhere", func() error { return os.Rename(filepath.Join(beside, "a"), in("back")) }},
		{"away and back, with more in it", func() error {
			return errors.Join(os.Rename(in("a"), filepath.Join(beside, "a")),
				os.MkdirAll(filepath.Join(beside, "a/b/new/newer"), 0o755), os.Rename(filepath.Join(beside, "a"), in("a")))
		}},
		{"into what was inside it", func() error {
			return errors.Join(os.Rename(in("a/b"), in("b")), os.Rename(in("a"), in("b/a")), os.Rename(in("b"), in("a")))
		}},
		{"in turn", func() error {
			return errors.Join(os.Rename(in("x"), in("tmp")), os.Rename(in("back"), in("x")), os.Rename(in("tmp"), in("back")))
		}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			must(t, step.do())
			f.Converge(t)
			f.Hears(t)
		})
	}
	s.checkExact(t, f)
}

func (s suite) testQuickTurns(t *testing.T) {
	root := t.TempDir()
	f := Follow(t, s.open, root)
	for i := range 100 {
		dir := filepath.Join(root, fmt.Sprint(i))
		for range 3 {
			must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755), os.RemoveAll(dir))
		}
		must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	}
	f.Converge(t)
	f.Hears(t)
	s.checkExact(t, f)
}

func (s suite) testLinks(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755), os.Symlink(outside, filepath.Join(root, "before")))
	const dirs = 100
	dir := func(i int) string { return filepath.Join(root, fmt.Sprint("dir", i)) }
	for i := range dirs {
		must(t, os.MkdirAll(filepath.Join(dir(i), "sub"), 0o755))
	}
	f := Follow(t, s.open, root)
	must(t, os.Symlink(outside, filepath.Join(root, "after")))
	for i := range dirs {
		// In one step, so that it is a link when its removal is noticed.
		must(t, os.Rename(dir(i), filepath.Join(outside, fmt.Sprint(i))), os.Symlink(outside, dir(i)))
	}
	f.Converge(t)
	must(t, write(filepath.Join(outside, "sub", "file"), ""), write(filepath.Join(root, "last"), ""))
	f.Converge(t)
	for _, b := range f.Batches {
		for _, dir := range b.Dirs {
			if strings.Contains(dir, "/") && s.exact {
				t.Errorf("%s is named, which is behind a link", dir)
			}
		}
	}
	s.checkExact(t, f)
}

// testFlapping moves a directory away and back all the time, while others are
// made in it.
func (s suite) testFlapping(t *testing.T) {
	root, beside := t.TempDir(), t.TempDir()
	in, out := filepath.Join(root, "a"), filepath.Join(beside, "a")
	must(t, os.Mkdir(in, 0o755))
	f := Follow(t, s.open, root)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		// No more than the kernel's queue holds, whose overflow is no news.
		for i := range 2000 {
			select {
			case <-stop:
				return
			default:
				_ = os.Mkdir(filepath.Join(in, fmt.Sprint(i)), 0o755)
				_ = os.Mkdir(filepath.Join(out, fmt.Sprint(i)), 0o755)
			}
		}
	})
	for range 200 {
		must(t, os.Rename(in, out), os.Rename(out, in))
	}
	close(stop)
	wg.Wait()
	f.Converge(t)
	f.Hears(t)
	s.checkExact(t, f)
}

func (s suite) testBursts(t *testing.T) {
	root := t.TempDir()
	f := Follow(t, s.open, root, watch.WithQuiet(100*time.Millisecond), watch.WithMaxDelay(time.Minute))
	for i := range 1000 {
		must(t, write(filepath.Join(root, fmt.Sprint(i)), "1"))
	}
	f.Converge(t)
	if n := len(f.Batches); n > 20 {
		t.Errorf("1000 files in one directory came as %d batches", n)
	}
	if s.exact && !f.named(".") {
		t.Errorf("the root is not named: %+v", f.Batches)
	}
}

func (s suite) testStartUp(t *testing.T) {
	for range 2 {
		StartUp(t, s.open, 50)
	}
}

// StartUp makes a tree of so many directories, and adds to it all the time
// while a watcher begins and the tree is scanned: nothing may be missed.
func StartUp(t *testing.T, open Open, dirs int) {
	t.Helper()
	root := t.TempDir()
	for i := range dirs {
		must(t, os.MkdirAll(filepath.Join(root, fmt.Sprint(i), "sub"), 0o755))
	}
	begun, stop := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			dir := filepath.Join(root, fmt.Sprint(i%dirs), fmt.Sprint("new", i), "deep")
			_ = os.MkdirAll(dir, 0o755)
			_ = write(filepath.Join(dir, "file"), "")
			if i == 20 {
				close(begun)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	<-begun
	f := Follow(t, open, root)
	close(stop)
	wg.Wait()
	f.Converge(t)
	f.Hears(t)
	must(t, f.Watcher.Close())
}

func (s suite) testRandom(t *testing.T) {
	for _, f := range Random(t, s.open, 6) {
		s.checkExact(t, f)
	}
}

// Random changes trees at random, so many one after the other, and prints the
// seed. It returns those who followed.
func Random(t *testing.T, open Open, rounds int) []*Follower {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var all []*Follower
	for range rounds {
		root, beside := t.TempDir(), t.TempDir()
		for range 100 {
			Mutate(rng, root, beside)
		}
		f := Follow(t, open, root)
		all = append(all, f)
		for i := range 300 {
			Mutate(rng, root, beside)
			// Sometimes the receiver looks while all is in motion.
			if i%50 == 0 && rng.IntN(2) == 0 {
				select {
				case b := <-f.Watcher.Changes():
					f.Batches = append(f.Batches, b)
					must(t, f.Image.Apply(root, b))
				default:
				}
			}
		}
		f.Converge(t)
		f.Hears(t)
		must(t, f.Watcher.Close())
	}
	return all
}
