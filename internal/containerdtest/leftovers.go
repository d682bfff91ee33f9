//go:build linux

package containerdtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/defaults"
)

// finishing is how long containerd has for what nobody waits for: the
// deletion of a task's directory, whose caller was killed.
const finishing = 10 * time.Second

// Leftovers names what is Present of containers for good.
func (d *Daemon) Leftovers() ([]string, error) {
	for begin := time.Now(); ; <-time.After(50 * time.Millisecond) {
		left, err := d.Present()
		if err != nil || len(left) == 0 || time.Since(begin) > finishing {
			return left, err
		}
	}
}

// Present names everything that there is of containers now: containers, tasks,
// shims, snapshots but those of images, leases, mounts, cgroups, and of Budgie's
// bridge network namespaces and addresses.
func (d *Daemon) Present() ([]string, error) {
	c, err := d.Client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx := context.Background()
	var left []string
	containers, err := c.Containers(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		left = append(left, "container "+c.ID())
	}
	// What a killed program had under way may have been made after its lease was
	// deleted. containerd collects that, now rather than at its leisure.
	lease, err := c.LeasesService().Create(ctx, leases.WithRandomID())
	if err != nil {
		return nil, err
	}
	if err := c.LeasesService().Delete(ctx, lease, leases.SynchronousDelete); err != nil {
		return nil, err
	}
	keys, err := activeSnapshots(ctx, c)
	if err != nil {
		return nil, err
	}
	left = append(left, keys...)
	held, err := c.LeasesService().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range held {
		left = append(left, "lease "+l.ID)
	}
	rest, err := d.onMachine()
	return append(left, rest...), err
}

// onMachine names what there is besides what containerd knows of.
func (d *Daemon) onMachine() ([]string, error) {
	var left []string
	mounts, err := mountsBelow(filepath.Join(d.Dir, "state"), filepath.Join(d.Dir, "root", "io.containerd.snapshotter"))
	if err != nil {
		return nil, err
	}
	left = append(left, mounts...)
	for _, pattern := range []string{
		"/run/budgie/netns/*", "/run/budgie/cni/budgie/10.*", "/run/budgie/cni/results/*",
		d.Dir + "/state/io.containerd.runtime.v2.task/*/*", os.TempDir() + "/containerd-mount*",
		"/sys/fs/cgroup/*/" + d.Namespace + "/*/cgroup.procs", "/sys/fs/cgroup/" + d.Namespace + "/*/cgroup.procs",
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		left = append(left, files...)
	}
	rules, err := exec.Command("iptables-save").Output()
	if err != nil {
		return nil, fmt.Errorf("iptables-save: %w", err)
	}
	for line := range strings.Lines(string(rules)) {
		if strings.Contains(line, "/32 ") { // those of a single address
			left = append(left, "firewall rule "+strings.TrimSpace(line))
		}
	}
	shims, err := d.shims()
	for _, pid := range shims {
		left = append(left, fmt.Sprintf("shim %d", pid))
	}
	return left, err
}

// shims returns the daemon's own shims: what another one left is found where that was
// looked at, and not once more in every test that comes later.
func (d *Daemon) shims() ([]int, error) {
	pids, err := Processes("containerd-shim")
	return slices.DeleteFunc(pids, func(pid int) bool {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err != nil || !slices.Contains(strings.Split(string(data), "\x00"), d.Address)
	}), err
}

// mountsBelow names the mounts that are in one of the directories, or made of
// what is in there.
func mountsBelow(dirs ...string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	var found []string
	for line := range strings.Lines(string(text)) {
		if slices.ContainsFunc(dirs, func(dir string) bool { return strings.Contains(line, dir) }) {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	return found, err
}

// activeSnapshots are those that are not parts of images.
func activeSnapshots(ctx context.Context, c *containerd.Client) ([]string, error) {
	var keys []string
	err := c.SnapshotService(defaults.DefaultSnapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind != snapshots.KindCommitted {
			keys = append(keys, "snapshot "+info.Name)
		}
		return nil
	})
	return keys, err
}

// Processes returns the ids of the processes of the test's own namespace whose
// command is named so, or whose name begins so where it is longer than the 15
// bytes that the kernel keeps.
func Processes(name string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	var pids []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(data)) != name[:min(len(name), 15)] {
			continue // it has ended meanwhile, or is another one
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, err
}
