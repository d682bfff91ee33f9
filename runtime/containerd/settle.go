//go:build linux

package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/hostdir"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
)

const (
	// settleEvery is how often to ask for a task that is being made.
	settleEvery = 20 * time.Millisecond
	// settlePatience is how long containerd may take to make one.
	settlePatience = time.Second
	// probePatience is how long a look at a task, or an attempt to make one, may
	// take, which together take some 50 ms.
	probePatience = 5 * time.Second
)

// settle makes sure that no task of a container is there, nor appears later, nor
// anything that is in the way of one. Whoever asked for a task may be dead, and
// containerd still be about to make it: then the task cannot be seen yet. What can
// be seen is whether another one can be made. That has to be so twice: when
// containerd cannot delete the directory of a task, only the next task shows it.
func (r *Runtime) settle(ctx context.Context, id string) error {
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	container, err := c.LoadContainer(ctx, id)
	if err != nil {
		return gone(err)
	}
	begin, free, wasFree := time.Now(), 0, false
	for {
		found, err := r.probe(ctx, container)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if found == taskFree {
			if free, wasFree = free+1, true; free == 2 {
				return nil
			}
			continue
		}
		if free = 0; found == taskUnknown {
			return err
		}
		switch took := time.Since(begin); {
		case took > r.endPatience:
			return fmt.Errorf("containerd holds on to a task that was half made or half deleted when it was killed: restart the machine, or create the container again under another name (%w)", err)
		case took > settlePatience || wasFree:
			r.letGo(ctx, c, id, err)
		}
		pause(ctx, settleEvery)
	}
}

// finding is what a probe found out.
type finding int

const (
	// taskUnknown: nothing can be said; the error says why.
	taskUnknown finding = iota
	// taskFree: there is no task, and as far as containerd knows nothing of one.
	taskFree
	// taskInTheWay: another task cannot be made yet; the error says why.
	taskInTheWay
)

// probe destroys the task of a container, or makes one and destroys it.
func (r *Runtime) probe(ctx context.Context, container client.Container) (finding, error) {
	short, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	task, st, err := r.task(short, container.ID())
	if err == nil {
		return destroyed(r.destroy(ctx, task, st.Status))
	}
	if gone(err) != nil && short.Err() == nil {
		return taskUnknown, err
	}
	// A shim that containerd gave up waits for ever to be let in, and containerd
	// for ever for an answer from it, since it takes it for the new one's.
	if err := r.endShims(ctx, container.ID()); err != nil {
		return taskUnknown, err
	}
	r.step(ctx, "try to make a task")
	made, err := container.NewTask(short, cio.NullIO)
	switch {
	case err == nil:
		return destroyed(r.destroy(ctx, made, client.Created))
	case short.Err() != nil, taskExists(err):
		return taskInTheWay, err
	case errdefs.IsUnavailable(err):
		// One that was killed meanwhile may leave a shim that has only just begun.
		return taskUnknown, err
	}
	return taskFree, nil // whatever is wrong, it is not a task
}

func destroyed(err error) (finding, error) {
	if err != nil {
		return taskUnknown, err
	}
	return taskFree, nil
}

// taskExists reports whether an error says that there is a task, or something
// of one. containerd reports its directory as the system does.
func taskExists(err error) bool {
	return errdefs.IsAlreadyExists(err) || strings.Contains(err.Error(), "file exists")
}

// letGo makes containerd let go of a shim without a task, whose maker was cut
// off half way (containerd#6860). Where it knows of none, what is in the way is
// the task's directory: one that was killed while it deleted another such
// directory of the container cannot delete this one, not even when it starts.
func (r *Runtime) letGo(ctx context.Context, c *client.Client, id string, exists error) {
	_, err := c.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); err != nil && gone(err) == nil {
		err = removeBundle(ctx, exists, r.namespace, id)
	}
	if err != nil {
		r.log.Debug("cannot delete a half-made task yet", "id", id, "error", err)
	}
}

// removeBundle deletes the directory of a task that is in the way of a new one,
// and what runc may have made in it. Only containerd's error says where the
// directory is.
func removeBundle(ctx context.Context, exists error, namespace, id string) error {
	_, rest, _ := strings.Cut(exists.Error(), "mkdir ")
	dir, _, found := strings.Cut(rest, ": file exists")
	if !found || !filepath.IsAbs(dir) || filepath.Base(dir) != id || filepath.Base(filepath.Dir(dir)) != namespace {
		return nil
	}
	if err := runcDelete(ctx, namespace, id); err != nil {
		return err
	}
	// containerd renames a directory so before it deletes it.
	half := filepath.Join(filepath.Dir(dir), "."+id)
	return errors.Join(mount.UnmountRecursive(dir, 0), mount.UnmountRecursive(half, 0),
		hostdir.RemoveTree(half), hostdir.RemoveTree(dir))
}

// endShims kills the shims of a container that has no task, and deletes what their
// runc may have made.
func (r *Runtime) endShims(ctx context.Context, id string) error {
	pids, err := shimsOf(r.namespace, id)
	if err != nil || len(pids) == 0 {
		return err
	}
	for _, pid := range pids {
		r.log.Warn("killing a shim whose task was never made", "id", id, "pid", pid)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return runcDelete(ctx, r.namespace, id)
}

// shimsOf returns the processes that are shims of a container.
func shimsOf(namespace, id string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		args := strings.Split(string(data), "\x00")
		if err != nil || !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") || !slices.Contains(args, id) || !slices.Contains(args, namespace) {
			continue // gone, or another program
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// runcRoot is where containerd's shim keeps what runc knows, unless configured
// otherwise.
const runcRoot = "/run/containerd/runc"

// runcDelete deletes what runc knows of a container. Where that is nothing, runc
// succeeds, as it is to by force.
func runcDelete(ctx context.Context, namespace, id string) error {
	out, err := exec.CommandContext(ctx, "runc", "--root", filepath.Join(runcRoot, namespace), "delete", "--force", id).CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrNotFound) { // another runtime's leftovers are not runc's
		return fmt.Errorf("runc delete: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
