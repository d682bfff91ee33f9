package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/replica"
)

// mount makes a small file system, for the time of the test.
func mount(t *testing.T, dir, options string) {
	t.Helper()
	testenv.NeedRoot(t)
	must(t, os.MkdirAll(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, options))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// A copy that runs out of room says so, and becomes what its source is when there
// is room again, wherever it had got to.
func TestCaseV2FullDiskConverges(t *testing.T) {
	base := t.TempDir()
	src, place := filepath.Join(base, "source"), filepath.Join(base, "place")
	mount(t, place, "size=1G")
	for i := range 20 {
		put(t, src, fmt.Sprint("dir/", i), strings.Repeat("x", 5000+i))
	}
	k := keep(t, src, filepath.Join(place, "copy"))
	k.equal(t)
	for i, slack := range []uint64{0, 1, 3, 20} {
		bytes, _ := used(t, place)
		must(t, unix.Mount("", place, "", unix.MS_REMOUNT, fmt.Sprint("size=", bytes+slack*4096)))
		for j := range 20 {
			put(t, src, fmt.Sprint("dir/", j), fmt.Sprint(i, strings.Repeat("y", 6000+j)))
			put(t, src, fmt.Sprint("new", i, "/", j), fmt.Sprint(i, j, strings.Repeat("z", 3000)))
		}
		must(t, os.RemoveAll(filepath.Join(src, fmt.Sprint("new", i-1))))
		k.fails(t, syscall.ENOSPC.Error(), k.dst)
		must(t, unix.Mount("", place, "", unix.MS_REMOUNT, "size=1G"))
		k.equal(t)
	}
	if left, err := filepath.Glob(filepath.Join(place, "*")); err != nil || len(left) > 4 {
		t.Errorf("beside the copy there are %q, %v", left, err)
	}
}

func TestSourceThatIsNotThereYet(t *testing.T) {
	base := t.TempDir()
	k := keep(t, filepath.Join(base, "source"), filepath.Join(base, "copy"))
	k.fails(t, k.src, "no such file or directory")
	if _, err := os.Lstat(k.dst); err == nil {
		t.Error("there is a copy of nothing")
	}
	put(t, k.src, "a", "a")
	k.equal(t)
}

func TestSourceThatIsNoDirectory(t *testing.T) {
	base := t.TempDir()
	put(t, base, "source", "a file")
	k := keep(t, filepath.Join(base, "source"), filepath.Join(base, "copy"))
	k.fails(t, k.src, "not a directory")
	must(t, os.Remove(k.src))
	put(t, k.src, "a", "a")
	k.equal(t)
}

func TestReadOnlyCopyConverges(t *testing.T) {
	base := t.TempDir()
	place := filepath.Join(base, "place")
	mount(t, place, "size=10M")
	k := keep(t, filepath.Join(base, "source"), filepath.Join(place, "copy"))
	put(t, k.src, "a", "a")
	k.equal(t)
	for unix.Mount("", place, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") != nil {
		k.until(t, "a moment in which nothing is written", func(news) bool { return true })
	}
	put(t, k.src, "a", "other")
	put(t, k.src, "b", "b")
	k.fails(t, "read-only file system")
	must(t, unix.Mount("", place, "", unix.MS_REMOUNT, ""))
	k.equal(t)
}

// A follower that may not write into its copy says so, and goes on when it may.
func TestFollowerWithoutPermissionConverges(t *testing.T) {
	testenv.NeedRoot(t)
	place, err := os.MkdirTemp("/run", "place") // nobody can get there
	must(t, err)
	defer os.RemoveAll(place)
	src, dst := filepath.Join(t.TempDir(), "source"), filepath.Join(place, "copy")
	put(t, src, "dir/a", "a")
	must(t, os.Mkdir(dst, 0o555), os.Chmod(place, 0o777))
	l := newLink(t)
	heard := make(chan news, 1024)
	sender := &side{role: "send", dir: src, lines: l.sendTo}
	follower := &side{role: "follow", dir: dst, link: l.ln.Addr().String(), user: 65534, lines: func(line string) {
		if n, ok := decode(line); ok {
			select {
			case heard <- n:
			default:
			}
		}
	}}
	sender.start(t)
	defer sender.kill()
	follower.start(t)
	defer follower.kill()
	k := &keeper{src: src, dst: dst, heard: heard}
	k.fails(t, "not permitted", dst)
	if left, err := os.ReadDir(dst); err != nil || len(left) > 0 {
		t.Errorf("there is %v, %v", left, err)
	}
	must(t, os.Chown(dst, 65534, 65534))
	k.until(t, "a copy", func(n news) bool { return n.State.Phase == replica.Synced })
	if got, err := os.ReadFile(filepath.Join(dst, "dir/a")); err != nil || string(got) != "a" {
		t.Errorf("the copy has %q, %v", got, err)
	}
}

// What is mounted in a source is part of it. When it is unmounted, most of the
// copy would go, and stays.
func TestFileSystemInSourceIsUnmounted(t *testing.T) {
	base := t.TempDir()
	disk, src := filepath.Join(base, "disk"), filepath.Join(base, "source")
	mount(t, disk, "size=10M")
	inside := filepath.Join(src, "inside")
	must(t, os.MkdirAll(inside, 0o755), unix.Mount(disk, inside, "", unix.MS_BIND, ""))
	defer unix.Unmount(inside, unix.MNT_DETACH)
	put(t, src, "a", "a")
	for _, name := range []string{"1", "2", "dir/3"} {
		put(t, inside, name, name)
	}
	k := keep(t, src, filepath.Join(base, "copy"), replica.WithScan(time.Second))
	k.equal(t)
	put(t, inside, "dir/3", "changed")
	k.equal(t)
	must(t, unix.Unmount(inside, 0))
	n := k.until(t, "suspension", func(n news) bool { return n.State.Phase == replica.Suspended })
	if !strings.Contains(n.State.Reason, "3 of 4") {
		t.Errorf("the reason is %q", n.State.Reason)
	}
	if got, err := os.ReadFile(filepath.Join(k.dst, "inside/dir/3")); err != nil || string(got) != "changed" {
		t.Errorf("the copy has %q, %v", got, err)
	}
	must(t, unix.Mount(disk, inside, "", unix.MS_BIND, ""))
	put(t, inside, "4", "4")
	k.equal(t)
}

// A directory of the copy may be on a file system of its own.
func TestFileSystemInCopy(t *testing.T) {
	base := t.TempDir()
	src, dst := filepath.Join(base, "source"), filepath.Join(base, "copy")
	for _, name := range []string{"a", "inside/b", "inside/dir/c"} {
		put(t, src, name, name)
	}
	mount(t, filepath.Join(dst, "inside"), "size=10M")
	k := keep(t, src, dst)
	k.equal(t)
	put(t, src, "inside/b", "replaced")
	k.equal(t)
	must(t, os.Remove(filepath.Join(src, "inside/dir/c")))
	k.equal(t)
	must(t, os.Rename(filepath.Join(src, "inside/b"), filepath.Join(src, "b")))
	k.equal(t)
	must(t, os.Link(filepath.Join(src, "b"), filepath.Join(src, "b2")))
	k.equal(t)
}

// The source's clock is a day ahead, or behind: what changes without another size
// or time is seen all the same.
func TestClocksThatDifferByADay(t *testing.T) {
	base := t.TempDir()
	k := keep(t, filepath.Join(base, "source"), filepath.Join(base, "copy"), replica.WithScan(time.Second))
	for i, off := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		at := time.Now().Add(off)
		for round := range 3 {
			for _, name := range []string{"a", "dir/b"} {
				put(t, k.src, name, fmt.Sprint("content ", i, round))
				must(t, os.Chtimes(filepath.Join(k.src, name), at, at))
			}
			must(t, os.Chtimes(filepath.Join(k.src, "dir"), at, at))
			k.equal(t)
		}
	}
}
