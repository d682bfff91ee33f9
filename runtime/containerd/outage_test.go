//go:build linux

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
)

// A containerd that hung before anybody connected to it is said to hang, too: the
// kernel takes connections for it. That is found out after 10 s.
func TestHangingFromTheBeginning(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r, err := New(WithAddress(socket), WithDataDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = r.RemoveImage(t.Context(), "docker.io/library/busybox:latest")
	if err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "systemctl restart containerd") {
		t.Errorf("RemoveImage: %v", err)
	}
}

// A shim that hangs is said to hang by what asks it, and makes nothing else hang.
func TestHangingShim(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, testHangingShim)
}

func testHangingShim(t *testing.T, v containerdtest.Version) {
	d := private(t, v)
	r := open(t, d, t.TempDir())
	defer r.Close()
	r.answerPatience = time.Second
	id, _ := launch(t, r, spec(programImage, program("sleep")...))
	shims, err := shimsOf(d.Namespace, id)
	if err != nil || len(shims) != 1 {
		t.Fatalf("shims %v, %v", shims, err)
	}
	if err := syscall.Kill(shims[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	_, serr := r.Stats(t.Context(), id)
	_, xerr := r.Exec(t.Context(), id, runtime.ExecConfig{Command: []string{"true"}})
	r.endPatience = time.Second
	perr := r.Stop(t.Context(), id, time.Minute)
	for op, err := range map[string]error{"Stats": serr, "Exec": xerr, "Stop": perr} {
		if err == nil || !strings.Contains(err.Error(), "shim, which stands") || !strings.Contains(err.Error(), id[:12]) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := syscall.Kill(shims[0], syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.answerPatience, r.endPatience = time.Minute, time.Minute
	if err := r.Stop(t.Context(), id, 0); err != nil {
		t.Error(err)
	}
	if err := r.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
	empty(t, d)
}

// containerd may have no more than a text to say that its shim did not answer.
func TestSilentShimByText(t *testing.T) {
	const id = "0123456789abcdef"
	err := explainShim(t.Context(), id, errors.New("context deadline exceeded: unknown"))
	if err == nil || !strings.Contains(err.Error(), "shim, which stands") {
		t.Error(err)
	}
	other := errors.New("something else")
	if err := explainShim(t.Context(), id, other); err != other {
		t.Error(err)
	}
}

// lostSight counts how often a runtime says, at which level, that it lost sight of a
// container. It is a slog.Handler.
type lostSight struct{ warnings, others chan struct{} }

func (h lostSight) Enabled(context.Context, slog.Level) bool { return true }
func (h lostSight) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h lostSight) WithGroup(string) slog.Handler            { return h }

// Handle takes a record of the runtime.
func (h lostSight) Handle(_ context.Context, rec slog.Record) error {
	to := h.others
	if rec.Level >= slog.LevelWarn {
		to = h.warnings
	}
	if strings.Contains(rec.Message, "lost sight") {
		to <- struct{}{}
	}
	return nil
}

// That containerd is away is said once for each container, however long that takes.
func TestOutageIsSaidOnce(t *testing.T) {
	containerdtest.Need(t)
	d := private(t, "")
	h := lostSight{make(chan struct{}, 100), make(chan struct{}, 100)}
	r := open(t, d, t.TempDir(), WithLogger(slog.New(h)))
	defer r.Close()
	id, _ := launch(t, r, spec(programImage, program("sleep")...))
	d.Kill()
	for range 3 {
		<-h.others
	}
	if n := len(h.warnings); n != 1 {
		t.Errorf("%d warnings", n)
	}
	if err := errors.Join(d.Start(), r.Stop(t.Context(), id, 0), r.Remove(t.Context(), id)); err != nil {
		t.Error(err)
	}
}

// writerFunc is called with what is written.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A command under which containerd goes away may run on, and that is said.
func TestExecOverAnOutage(t *testing.T) {
	containerdtest.Need(t)
	d := private(t, "")
	r := open(t, d, t.TempDir())
	defer r.Close()
	id, _ := launch(t, r, shell("exec sleep 1000"))
	_, err := r.Exec(t.Context(), id, runtime.ExecConfig{
		Command: []string{"sh", "-c", "echo begun; exec sleep 1000"},
		Stdout:  writerFunc(func(p []byte) (int, error) { d.Kill(); return len(p), nil }),
	})
	if err == nil || !strings.Contains(err.Error(), "may run on") || !strings.Contains(err.Error(), "containerd is not running") {
		t.Errorf("Exec: %v", err)
	}
	restore(t, d, r, id)
}

// A containerd that was killed while it made a snapshot may have left its directory, on
// which the next one fails.
func TestRemainsOfASnapshot(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		d := private(t, v)
		r := open(t, d, t.TempDir())
		defer r.Close()
		ids := []string{runtimetest.NewID(), runtimetest.NewID()}
		create := func(id string) {
			if err := r.Create(t.Context(), runtime.Config{ID: id, Spec: shell("exit 0")}); err != nil {
				t.Error(err)
			}
		}
		create(ids[0])
		snapshots := filepath.Join(d.Dir, "root", "io.containerd.snapshotter.v1.overlayfs", "snapshots")
		made, err := os.ReadDir(snapshots)
		if err != nil {
			t.Fatal(err)
		}
		last := 0
		for _, dir := range made {
			n, err := strconv.Atoi(dir.Name())
			if err != nil {
				t.Fatal(err)
			}
			last = max(last, n)
		}
		remains := filepath.Join(snapshots, strconv.Itoa(last+1))
		if err := os.MkdirAll(filepath.Join(remains, "left"), 0o700); err != nil {
			t.Fatal(err)
		}
		create(ids[1])
		if _, err := os.Stat(filepath.Join(remains, "left")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what was left there was not in the way: %v", err)
		}
		for _, id := range ids {
			if err := r.Remove(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		empty(t, d)
	})
}

// A containerd that is killed while a task is tried out has said nothing about tasks: a
// shim that it began at that moment is there only later.
func TestCaseR5KilledWhileItSettles(t *testing.T) {
	containerdtest.Need(t)
	d := private(t, "")
	dir, id := t.TempDir(), runtimetest.NewID()
	killAtPoint(t, d, dir, id, bunfile.NetworkHost, slices.Index(lifeOn(bunfile.NetworkHost), "start: make the task"))
	s, tried := &stepper{}, 0
	s.at = func(n int) {
		if s.steps[n] != "stop: try to make a task" {
			return
		}
		if tried++; tried == 2 { // the last one, if all is well
			d.Kill()
		}
	}
	r := open(t, d, dir, WithLogger(slog.New(s)))
	defer r.Close()
	err := r.Stop(t.Context(), id, 0)
	if tried != 2 || !errors.Is(err, runtime.ErrUnavailable) {
		t.Errorf("Stop, after %d tries: %v; want ErrUnavailable after 2", tried, err)
	}
	restore(t, d, r, id)
}

// A containerd that is killed while it deletes a task has the shim forget it, and may
// not come to ending the shim.
func TestCaseR5KilledWhileItDeletesATask(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		d := private(t, v)
		r := open(t, d, t.TempDir())
		defer r.Close()
		id, _ := launch(t, r, spec(programImage, program("sleep")...))
		d.Kill()
		deleteInShim(t, d, id)
		restore(t, d, r, id)
	})
}

// deleteInShim kills a task and has its shim forget it, as a containerd does that ends
// the shim next.
func deleteInShim(t *testing.T, d *containerdtest.Daemon, id string) {
	t.Helper()
	client := ttrpc.NewClient(dialShim(t, d, id))
	defer client.Close()
	var err error
	if d.Version == containerdtest.Latest {
		shim := taskv3.NewTTRPCTaskClient(client)
		_, kill := shim.Kill(t.Context(), &taskv3.KillRequest{ID: id, Signal: uint32(syscall.SIGKILL)})
		_, wait := shim.Wait(t.Context(), &taskv3.WaitRequest{ID: id})
		_, forget := shim.Delete(t.Context(), &taskv3.DeleteRequest{ID: id})
		err = errors.Join(kill, wait, forget)
	} else {
		shim := taskv2.NewTTRPCTaskClient(client)
		_, kill := shim.Kill(t.Context(), &taskv2.KillRequest{ID: id, Signal: uint32(syscall.SIGKILL)})
		_, wait := shim.Wait(t.Context(), &taskv2.WaitRequest{ID: id})
		_, forget := shim.Delete(t.Context(), &taskv2.DeleteRequest{ID: id})
		err = errors.Join(kill, wait, forget)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// dialShim connects to the shim of a task. Its address is alone in a file, or in one of
// JSON, depending on the version.
func dialShim(t *testing.T, d *containerdtest.Daemon, id string) net.Conn {
	t.Helper()
	var where struct{ Address string }
	dir := filepath.Join(d.Dir, "state", "io.containerd.runtime.v2.task", d.Namespace, id)
	data, err := os.ReadFile(filepath.Join(dir, "address"))
	if where.Address = string(data); err != nil {
		if data, err = os.ReadFile(filepath.Join(dir, "bootstrap.json")); err == nil {
			err = json.Unmarshal(data, &where)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", strings.TrimPrefix(where.Address, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// restore starts a containerd again after a Kill, and takes away what it had: a container
// of which nothing may be left.
func restore(t *testing.T, d *containerdtest.Daemon, r *Runtime, id string) {
	t.Helper()
	if err := errors.Join(d.Start(), r.Stop(t.Context(), id, 0), r.Remove(t.Context(), id)); err != nil {
		t.Error(err)
	}
	empty(t, d)
}
