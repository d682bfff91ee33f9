package watch_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/replica/watch"
	"github.com/budgiehq/budgie/replica/watch/watchtest"
)

func mkdirs(t *testing.T, root string, n int) {
	t.Helper()
	for i := range n {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// wantLimit receives batches until one is about a limit, and checks that it
// names a setting of the kernel, its value, and the value needed: with one of the
// given numbers of watches more.
func wantLimit(t *testing.T, f *watchtest.Follower, setting string, value int, missing ...int) {
	t.Helper()
	for {
		b := f.Next(t)
		var limit *watch.LimitError
		if !errors.As(b.Reason, &limit) {
			continue
		}
		if !b.All || limit.Setting != setting || limit.Value != value || !slices.Contains(missing, limit.Needed-value) {
			t.Fatalf("got %+v, want %s = %d and %v more", limit, setting, value, missing)
		}
		for _, word := range []string{setting, fmt.Sprint(value), fmt.Sprint(limit.Needed)} {
			if !strings.Contains(limit.Error(), word) {
				t.Errorf("%q does not say %s", limit, word)
			}
		}
		return
	}
}

// wantRecovery receives batches until one says that the tree is watched.
func wantRecovery(t *testing.T, f *watchtest.Follower) {
	t.Helper()
	for {
		if b := f.Next(t); b.All && b.Reason == nil {
			return
		}
	}
}

func setting(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The watches run out at first, and later, for a directory that is new.
func TestCaseV3WatchLimit(t *testing.T) {
	root := t.TempDir()
	mkdirs(t, root, 39) // 40 with the root
	name, value := "fs.inotify.max_user_watches", setting(t, "fs.inotify.max_user_watches")
	if user := setting(t, "user.max_inotify_watches"); user < value {
		name, value = "user.max_inotify_watches", user
	}
	var full atomic.Bool
	full.Store(true)
	open := watchtest.Open(watch.OpenFailing(10, func() error {
		if full.Load() {
			return unix.ENOSPC
		}
		return nil
	}))
	f := watchtest.Follow(t, open, root, watch.WithFallback(50*time.Millisecond))
	wantLimit(t, f, name, value, 30)
	// Scanning converges, whatever is not watched.
	f.Hears(t)
	full.Store(false)
	wantRecovery(t, f)
	f.Hears(t)
	full.Store(true)
	if err := os.Mkdir(filepath.Join(root, "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	wantLimit(t, f, name, value, 1, 31) // then, or by the next attempt
	f.Hears(t)
}

// A watcher that cannot be told of anything is still one.
func TestCaseV3OtherFailures(t *testing.T) {
	root := t.TempDir()
	mkdirs(t, root, 3)
	var failing atomic.Bool
	failing.Store(true)
	open := watchtest.Open(watch.OpenFailing(0, func() error {
		if failing.Load() {
			return unix.ENOMEM
		}
		return nil
	}))
	f := watchtest.Follow(t, open, root, watch.WithFallback(20*time.Millisecond))
	for {
		if b := f.Next(t); b.All && errors.Is(b.Reason, unix.ENOMEM) {
			break
		}
	}
	f.Hears(t)
	failing.Store(false)
	wantRecovery(t, f)
	f.Hears(t)
}

// files4 is how many files are made for case V4, of which 100,000 took 28 s.
const files4 = 5_000

// Many files in new directories, while the queue of the kernel overflows.
func TestCaseV4Overflow(t *testing.T) {
	root := t.TempDir()
	gate := make(chan struct{})
	for _, name := range []string{"turn0", "turn1"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := watchtest.Follow(t, watch.OpenGated(gate), root, watch.WithFallback(time.Hour))
	begin := time.Now()
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			dir := filepath.Join(root, fmt.Sprint(i%50), fmt.Sprint(i), "deep")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for j := range 100 {
				fd, err := unix.Open(filepath.Join(dir, fmt.Sprint(j)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
				if err != nil {
					t.Fatal(err)
				}
				_ = unix.Close(fd)
			}
		}
	}
	fill(0, 10)
	// Two in turn: equal events in a row would become one.
	for i := range setting(t, "fs.inotify.max_queued_events") + 1000 {
		if err := os.Chmod(filepath.Join(root, fmt.Sprint("turn", i%2)), os.FileMode(0o600+i/2%2)); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	fill(10, files4/100)
	made := time.Since(begin)
	f.Converge(t)
	t.Logf("made in %v, equal after %v more", made, time.Since(begin)-made)
	overflows := 0
	for _, b := range f.Batches {
		if errors.Is(b.Reason, watch.ErrOverflow) {
			overflows++
		}
	}
	if overflows == 0 {
		t.Errorf("no batch of %d says that the queue overflowed", len(f.Batches))
	}
	f.Hears(t)
}

// Events are lost at random.
func TestCaseV4Random(t *testing.T) {
	watchtest.Random(t, watch.OpenLossy, 5)
}

func TestCaseV5StartUp(t *testing.T) {
	watchtest.StartUp(t, watch.New, 200)
}
