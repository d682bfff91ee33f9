package watch_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/replica/watch"
	"github.com/budgiehq/budgie/replica/watch/watchtest"
)

// inner is set in a process that has namespaces of its own.
const inner = "BUDGIE_WATCH_INNER"

// alone runs the calling test in a process with user and mount namespaces of
// its own. It is true there. As user 0 it may mount file systems and lower
// limits there; any other has no privileges.
func alone(t *testing.T, uid int) bool {
	t.Helper()
	if os.Getenv(inner) == t.Name() {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inner+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		testenv.Skip(t, "no user namespace: "+err.Error())
	case err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("in namespaces of its own: %v\n%s", err, out)
	}
	return false
}

func set(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The kernel's own limits, of watches.
func TestCaseV3KernelWatches(t *testing.T) {
	if !alone(t, 0) {
		return
	}
	const name = "user.max_inotify_watches"
	root := t.TempDir()
	mkdirs(t, root, 39) // 40 with the root
	set(t, name, "15")
	f := watchtest.Follow(t, watch.New, root, watch.WithFallback(50*time.Millisecond))
	wantLimit(t, f, name, 15, 25)
	f.Hears(t)
	set(t, name, "40") // what it said
	wantRecovery(t, f)
	f.Hears(t)
	if err := os.Mkdir(filepath.Join(root, "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	wantLimit(t, f, name, 40, 1)
	f.Hears(t)
}

// The kernel's own limits, of instances.
func TestCaseV3KernelInstances(t *testing.T) {
	if !alone(t, 0) {
		return
	}
	const name = "user.max_inotify_instances"
	root := t.TempDir()
	mkdirs(t, root, 3)
	set(t, name, "0")
	f := watchtest.Follow(t, watch.New, root, watch.WithFallback(50*time.Millisecond))
	wantLimit(t, f, name, 0, 1)
	f.Hears(t)
	set(t, name, "1")
	wantRecovery(t, f)
	f.Hears(t)
}

// The limit of open files looks the same to the kernel's caller, but is
// another.
func TestCaseV3OpenFiles(t *testing.T) {
	if !alone(t, 0) {
		return
	}
	root := t.TempDir()
	var limits unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limits); err != nil {
		t.Fatal(err)
	}
	none := limits
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(root, watch.WithFallback(time.Hour))
	if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limits)); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	b := <-w.Changes()
	var limit *watch.LimitError
	if !b.All || !errors.Is(b.Reason, unix.EMFILE) || errors.As(b.Reason, &limit) || !strings.Contains(b.Reason.Error(), "ulimit -n") {
		t.Errorf("got %v", b.Reason)
	}
}

func mount(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("watch", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// The watcher does not keep the root from being unmounted, and says so.
func TestRootUnmounted(t *testing.T) {
	if !alone(t, 0) {
		return
	}
	root := t.TempDir()
	mount(t, root)
	mkdirs(t, root, 3)
	f := watchtest.Follow(t, watch.New, root, watch.WithFallback(time.Hour))
	f.Hears(t)
	if err := unix.Unmount(root, 0); err != nil {
		t.Fatal(err)
	}
	for {
		if b := f.Next(t); b.All && errors.Is(b.Reason, watch.ErrRootGone) {
			break
		}
	}
	// What is mounted next is watched.
	mount(t, root)
	mkdirs(t, root, 2)
	f.Converge(t)
	f.Hears(t)
}

// A file system below the root is part of the tree, and so is what was below
// its mount point.
func TestUnmountedInside(t *testing.T) {
	if !alone(t, 0) {
		return
	}
	root := t.TempDir()
	point := filepath.Join(root, "0")
	mkdirs(t, root, 3)
	mkdirs(t, point, 3)
	mount(t, point)
	mkdirs(t, point, 5)
	f := watchtest.Follow(t, watch.New, root, watch.WithFallback(time.Hour))
	f.Hears(t)
	if err := unix.Unmount(point, 0); err != nil {
		t.Fatal(err)
	}
	f.Converge(t)
	f.Hears(t)
	for _, b := range f.Batches {
		if b.All {
			t.Errorf("a batch says everything: %v", b.Reason)
		}
	}
}

// A directory that may not be read is watched once it may.
func TestUnreadableDirectory(t *testing.T) {
	if !alone(t, 1000) {
		return
	}
	root := t.TempDir()
	mkdirs(t, root, 3)
	closed := filepath.Join(root, "0")
	mkdirs(t, closed, 3)
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadDir(closed); !errors.Is(err, os.ErrPermission) {
		t.Fatalf("the directory may be read: %v", err)
	}
	w, err := watch.New(root, watch.WithFallback(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	image, err := watchtest.Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	f := &watchtest.Follower{Root: root, Watcher: w, Image: image}
	f.Hears(t)
	for _, b := range f.Batches {
		if b.All {
			t.Errorf("a batch says everything: %v", b.Reason)
		}
	}
}

// A directory with two paths is watched under one: the root's is its own.
func TestRootBelowItself(t *testing.T) {
	if !alone(t, 0) {
		return
	}
	root := t.TempDir()
	mkdirs(t, root, 2)
	point := filepath.Join(root, "0")
	if err := unix.Mount(root, point, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(point, unix.MNT_DETACH) }()
	w, err := watch.New(root, watch.WithFallback(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, dir := range []string{".", "1", "."} {
		if err := os.WriteFile(filepath.Join(root, dir, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		select {
		case b := <-w.Changes():
			if !slices.Equal(b.Dirs, []string{dir}) {
				t.Errorf("got %+v for a file in %q", b, dir)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("a file in %q is not noticed", dir)
		}
	}
}
