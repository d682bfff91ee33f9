//go:build linux

package containerd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// What a cut-off start leaves in a control group is killed, and the group goes.
func TestEmptyCgroup(t *testing.T) {
	d := daemon(t)
	r := open(t, d, t.TempDir())
	defer r.Close()
	id := runtimetest.NewID()
	dirs := []string{filepath.Join(cgroupRoot, d.Namespace, id)}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err != nil {
		dirs = []string{filepath.Join(cgroupRoot, "pids", d.Namespace, id), filepath.Join(cgroupRoot, "cpu", d.Namespace, id)}
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	left := exec.Command("sleep", "1000")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- left.Wait() }()
	if err := os.WriteFile(filepath.Join(dirs[0], "cgroup.procs"), []byte(strconv.Itoa(left.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	if err := r.emptyCgroup(t.Context(), id); err != nil {
		t.Error(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](<-ended)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the process ended with %v", exit)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
	if err := r.emptyCgroup(t.Context(), id); err != nil {
		t.Errorf("where nothing is left: %v", err)
	}
}
