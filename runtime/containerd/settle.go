//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/hostdir"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
)

const (
	// settleEvery is how often to ask for a task that is being made.
	settleEvery = 20 * time.Millisecond
	// settlePatience is how long containerd may take to make one.
	settlePatience = time.Second
)

// settle makes sure that no task of a container is there, nor appears later.
// Whoever asked for one may be dead, and containerd still be about to make it:
// then the task cannot be seen yet. What can be seen is whether another one can
// be made.
func (r *Runtime) settle(ctx context.Context, id string) error {
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	container, err := c.LoadContainer(ctx, id)
	if err != nil {
		return gone(err)
	}
	begin := time.Now()
	for {
		probe, perr := container.NewTask(ctx, cio.NullIO)
		if perr == nil {
			return r.destroy(ctx, probe, client.Created)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !taskExists(perr) {
			return nil
		}
		task, st, err := r.task(ctx, id)
		if err == nil {
			return r.destroy(ctx, task, st.Status)
		}
		if gone(err) != nil {
			return err
		}
		switch took := time.Since(begin); {
		case took > r.endPatience:
			return fmt.Errorf("containerd holds on to a task that was half made or half deleted when it was killed: restart the machine, or create the container again under another name (%w)", perr)
		case took > settlePatience:
			r.letGo(ctx, c, id, perr)
		}
		pause(ctx, settleEvery)
	}
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
	if err != nil && gone(err) == nil {
		err = removeBundle(exists, r.namespace, id)
	}
	if err != nil {
		r.log.Debug("cannot delete a half-made task yet", "id", id, "error", err)
	}
}

// removeBundle deletes the directory of a task that is in the way of a new one.
// Only containerd's error says where it is.
func removeBundle(exists error, namespace, id string) error {
	_, rest, _ := strings.Cut(exists.Error(), "mkdir ")
	dir, _, found := strings.Cut(rest, ": file exists")
	if !found || !filepath.IsAbs(dir) || filepath.Base(dir) != id || filepath.Base(filepath.Dir(dir)) != namespace {
		return nil
	}
	// containerd renames a directory so before it deletes it.
	half := filepath.Join(filepath.Dir(dir), "."+id)
	return errors.Join(mount.UnmountRecursive(dir, 0), mount.UnmountRecursive(half, 0),
		hostdir.RemoveTree(half), hostdir.RemoveTree(dir))
}
