//go:build linux

package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/hostdir"
	"github.com/budgiehq/budgie/internal/lockfile"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/leases"
	"golang.org/x/sync/errgroup"
)

// undoPatience bounds how long the undoing of what failed may take, also when
// the call's own time is over.
const undoPatience = 30 * time.Second

// afterwards returns a context for what must be done also when ctx has ended.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
}

// Create fetches the image where needed, and makes the container's snapshot,
// its containerd container and its directory. Sources of writable volumes that
// do not exist are created.
func (r *Runtime) Create(ctx context.Context, cfg runtime.Config) error {
	ctx, done, err := r.enter(ctx, "create", cfg.ID)
	if err != nil {
		return err
	}
	return done(r.create(ctx, cfg))
}

func (r *Runtime) create(ctx context.Context, cfg runtime.Config) (err error) {
	if err := runtime.CheckID(cfg.ID); err != nil {
		return err
	}
	if err := errors.Join(supports(cfg.Spec), checkResources(cfg.Spec.Resources), checkVolumes(cfg.Spec.Volumes)); err != nil {
		return err
	}
	unlock, err := r.locks.Lock(ctx, cfg.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if r.exists(cfg.ID) == nil {
		return runtime.ErrExists
	}
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	if err := r.sweep(ctx, c, cfg.ID); err != nil {
		return err
	}
	// The directory is made first and removed last: whoever finds it without a
	// living maker knows that there may be more.
	r.step(ctx, "make the directory")
	if err := os.MkdirAll(r.path(making+cfg.ID), 0o700); err != nil {
		return err
	}
	lock, err := r.supervise(making + cfg.ID)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer func() {
		if err != nil {
			actx, cancel := afterwards(ctx)
			defer cancel()
			err = errors.Join(err, r.sweep(actx, c, cfg.ID))
		}
	}()
	// What is being built is referred to by nothing yet but this lease. One
	// that a killed program leaves is deleted with the next attempt, or expires.
	r.step(ctx, "take a lease")
	lctx, release, err := c.WithLease(ctx, leases.WithID(leaseOf(cfg.ID)), leases.WithExpiration(24*time.Hour))
	if err != nil {
		return err
	}
	r.step(ctx, "make volume sources")
	undo, err := hostdir.CreateSources(cfg.Spec.Volumes)
	if err == nil {
		if err = r.build(lctx, c, cfg); err != nil {
			undo()
		}
	}
	actx, cancel := afterwards(ctx)
	defer cancel()
	r.step(actx, "release the lease")
	return errors.Join(err, gone(release(actx)))
}

// The directories of containers that are being made and removed begin so.
const (
	making   = ".new-"
	removing = ".old-"
)

func leaseOf(id string) string { return "budgie-" + id }

// build makes everything of a container, its directory last: a container
// without one does not exist.
func (r *Runtime) build(ctx context.Context, c *client.Client, cfg runtime.Config) error {
	r.step(ctx, "get the image")
	img, err := r.image(ctx, c, cfg, nil)
	if err != nil {
		return err
	}
	r.step(ctx, "write the files")
	dir := r.path(making + cfg.ID)
	// The disk and containerd work at the same time.
	var written errgroup.Group
	written.Go(func() error { return writeFiles(dir, cfg) })
	if err = r.newContainer(ctx, c, img, cfg); remains(err) {
		err = r.newContainer(ctx, c, img, cfg)
	}
	if err = errors.Join(written.Wait(), err); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.step(ctx, "name the directory")
	if err := os.Rename(dir, r.path(cfg.ID)); err != nil {
		return err
	}
	return hostdir.Sync(r.dir)
}

// newContainer makes what containerd has of a container.
func (r *Runtime) newContainer(ctx context.Context, c *client.Client, img client.Image, cfg runtime.Config) error {
	_, err := c.NewContainer(ctx, cfg.ID,
		client.WithContainerLabels(map[string]string{"budgie.name": cfg.Spec.Name}),
		client.WithImage(img),
		client.WithAdditionalContainerLabels(map[string]string{digestLabel: img.Target().Digest.String()}),
		client.WithImageStopSignal(img, "SIGTERM"),
		r.stepOption("make the snapshot"),
		client.WithNewSnapshot(cfg.ID, img),
		r.stepOption("make the specification"),
		client.WithNewSpec(r.specOptions(img, cfg)...),
		r.stepOption("make the container"),
	)
	return err
}

// writeFiles writes what the directory of a new container holds.
func writeFiles(dir string, cfg runtime.Config) error {
	for _, d := range []string{"", "io", "log", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	return errors.Join(
		writeEtc(filepath.Join(dir, "etc"), cfg, ""),
		hostdir.WriteJSON(filepath.Join(dir, "config.json"), cfg),
		hostdir.WriteJSON(filepath.Join(dir, "status.json"), record{}),
	)
}

// stepOption reports a step between others of containerd's client.
func (r *Runtime) stepOption(name string) client.NewContainerOpts {
	return func(ctx context.Context, _ *client.Client, _ *containers.Container) error {
		r.step(ctx, name)
		return nil
	}
}

// sweep deletes what a killed or failed Create or Remove of this container left.
func (r *Runtime) sweep(ctx context.Context, c *client.Client, id string) error {
	if err := removeRootfs(r.path(making + id)); err != nil {
		return err
	}
	err := gone(r.deleteContainer(ctx, c, id))
	r.step(ctx, "delete the lease")
	if err = errors.Join(err, gone(c.LeasesService().Delete(ctx, leases.Lease{ID: leaseOf(id)}))); err != nil {
		return err
	}
	r.step(ctx, "remove the directories")
	return errors.Join(hostdir.RemoveTree(r.path(making+id)), hostdir.RemoveTree(r.path(removing+id)))
}

// sweepDead sweeps what programs left that were killed while they made or
// removed a container.
func (r *Runtime) sweepDead(ctx context.Context, c *client.Client) error {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		for _, prefix := range []string{making, removing} {
			if strings.HasPrefix(e.Name(), prefix) {
				errs = append(errs, r.sweepIfDead(ctx, c, e.Name(), prefix))
			}
		}
	}
	return errors.Join(err, errors.Join(errs...))
}

// sweepIfDead sweeps what has a directory of a name, unless whoever makes or removes it
// lives, or has just come to its end: then the container is another's, or gone.
func (r *Runtime) sweepIfDead(ctx context.Context, c *client.Client, name, prefix string) error {
	id := strings.TrimPrefix(name, prefix)
	if runtime.CheckID(id) != nil {
		return nil
	}
	lock, ok, err := lockfile.Try(r.path(name, "supervisor"))
	if err != nil || !ok {
		return nil
	}
	defer lock.Close()
	return r.sweep(ctx, c, id)
}

// deleteContainer deletes a container without a task, and its snapshot.
func (r *Runtime) deleteContainer(ctx context.Context, c *client.Client, id string) error {
	container, err := c.ContainerService().Get(ctx, id)
	if gone(err) != nil {
		return err
	}
	if err != nil {
		// The default one is all that this package makes snapshots with.
		container = containers.Container{Snapshotter: snapshotter}
	}
	r.step(ctx, "delete the snapshot")
	if err := gone(c.SnapshotService(container.Snapshotter).Remove(ctx, id)); err != nil {
		return err
	}
	r.step(ctx, "delete the container")
	return c.ContainerService().Delete(ctx, id)
}

// Remove deletes a container, its snapshot and its directory. The sources of
// volumes stay as they are.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	ctx, done, err := r.enter(ctx, "remove", id)
	if err != nil {
		return err
	}
	return done(r.remove(ctx, id))
}

func (r *Runtime) remove(ctx context.Context, id string) error {
	if runtime.CheckID(id) != nil {
		return runtime.ErrNotFound
	}
	unlock, err := r.locks.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if r.current(id) != nil {
		return runtime.ErrRunning
	}
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	st, _, err := r.observe(ctx, id)
	if errors.Is(err, runtime.ErrNotFound) && r.half(id) {
		return r.sweep(ctx, c, id)
	}
	if err != nil {
		return err
	}
	if st.PID != 0 {
		return runtime.ErrRunning
	}
	lock, err := r.supervise(id)
	if errors.Is(err, os.ErrNotExist) {
		return runtime.ErrNotFound // another process was faster
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := r.clear(ctx, id); err != nil {
		return err
	}
	r.step(ctx, "rename the directory")
	if err := os.Rename(r.path(id), r.path(removing+id)); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.runs, id)
	r.mu.Unlock()
	return r.sweep(ctx, c, id)
}

// half reports whether a container was begun to be made or removed.
func (r *Runtime) half(id string) bool {
	for _, prefix := range []string{making, removing} {
		if _, err := os.Lstat(r.path(prefix + id)); err == nil {
			return true
		}
	}
	return false
}
