//go:build linux

package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where control groups of version 1 have a directory for each
// controller, and those of version 2 their only root.
const cgroupRoot = "/sys/fs/cgroup"

// emptyCgroup ends what is left of a container in its control group, and removes
// that. Where the maker of a task is cut off, its runc may leave a process of
// which neither containerd nor a shim knows, or the group itself.
func (r *Runtime) emptyCgroup(ctx context.Context, id string) error {
	group := "/" + r.namespace + "/" + id // as the OCI specification has it
	for begin := time.Now(); ; {
		pids, err := processesIn(group)
		for _, pid := range pids {
			r.log.Warn("killing what a cut-off start left of a container", "id", id, "pid", pid)
			if kerr := unix.Kill(pid, unix.SIGKILL); !errors.Is(kerr, unix.ESRCH) {
				err = errors.Join(err, kerr)
			}
		}
		busy := len(pids) > 0
		if err == nil && !busy {
			busy, err = removeCgroup(group)
		}
		switch {
		case err != nil:
			return fmt.Errorf("clean up control group %s: %w", group, err)
		case !busy:
			return nil
		case time.Since(begin) > r.endPatience:
			return fmt.Errorf("the processes %v in control group %s were killed and do not end: they may wait for a disk or a file system that does not answer", pids, group)
		}
		if pause(ctx, settleEvery); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// cgroupDirs are the directories of a control group.
func cgroupDirs(group string) ([]string, error) {
	var dirs []string
	for _, pattern := range []string{cgroupRoot + group, cgroupRoot + "/*" + group} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, found...)
	}
	return dirs, nil
}

// processesIn returns the processes in a control group.
func processesIn(group string) ([]int, error) {
	dirs, err := cgroupDirs(group)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range dirs {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(data) {
			pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
			if err != nil {
				return nil, fmt.Errorf("%s/cgroup.procs: %w", dir, err)
			}
			if pid > 0 && !slices.Contains(pids, pid) { // 0 is one of another process namespace
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// removeCgroup removes a control group without processes. One that just became
// so is busy for a moment.
func removeCgroup(group string) (busy bool, _ error) {
	dirs, err := cgroupDirs(group)
	if err != nil {
		return false, err
	}
	for _, dir := range dirs {
		err := os.Remove(dir)
		switch {
		case errors.Is(err, unix.EBUSY):
			busy = true
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return false, err
		}
	}
	return busy, nil
}
