//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/budgiehq/budgie/internal/hostdir"
	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/runtime"
)

// Create prepares the container's directory. Sources of writable volumes that
// do not exist are created.
func (r *Runtime) Create(ctx context.Context, cfg runtime.Config) error {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return opError("create", cfg.ID, err)
	}
	defer done()
	return opError("create", cfg.ID, r.create(ctx, cfg))
}

func (r *Runtime) create(ctx context.Context, cfg runtime.Config) (err error) {
	if err := runtime.CheckID(cfg.ID); err != nil {
		return err
	}
	if err := supports(cfg.Spec); err != nil {
		return err
	}
	unlock, err := r.locks.Lock(ctx, cfg.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.sweep(cfg.ID); err != nil {
		return err
	}
	if _, err := os.Lstat(r.path(cfg.ID)); err == nil {
		return runtime.ErrExists
	}
	r.warn(cfg.Spec)
	// Everything is made beside its place and put there by one rename.
	made := r.path(".new-" + cfg.ID)
	defer func() {
		if err != nil {
			err = errors.Join(err, hostdir.RemoveTree(made))
		}
	}()
	for _, d := range []string{"", "io", "log", "root"} {
		if err := ownership.Mkdir(filepath.Join(made, d), 0o700); err != nil {
			return err
		}
	}
	if err := errors.Join(
		hostdir.WriteJSON(filepath.Join(made, "config.json"), cfg),
		hostdir.WriteJSON(filepath.Join(made, "status.json"), record{}),
	); err != nil {
		return err
	}
	undo, err := hostdir.CreateSources(cfg.Spec.Volumes)
	if err != nil {
		return err
	}
	if err = r.finishCreate(ctx, cfg, made); err != nil {
		undo()
	}
	return err
}

// finishCreate does what can still fail once the volumes' sources are there.
func (r *Runtime) finishCreate(ctx context.Context, cfg runtime.Config, made string) error {
	root := filepath.Join(made, "root")
	if err := linkVolumes(root, cfg.Spec.Volumes); err != nil {
		return err
	}
	path := getEnv(environment(cfg, root, nil), "PATH")
	workdir := filepath.Join(root, filepath.FromSlash(cfg.Spec.Image.Workdir))
	if _, err := lookCommand(cfg.Spec.Image.Command[0], path, workdir); err != nil {
		return err
	}
	if _, err := makeWorkdir(root, cfg.Spec); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The links and directories below root, too, are for the owner to remove.
	if err := ownership.GiveTree(made); err != nil {
		return err
	}
	if err := os.Rename(made, r.path(cfg.ID)); err != nil {
		return err
	}
	return hostdir.Sync(r.dir)
}

// sweep deletes what a killed Create or Remove of this container left.
func (r *Runtime) sweep(id string) error {
	return errors.Join(hostdir.RemoveTree(r.path(".new-"+id)), hostdir.RemoveTree(r.path(".old-"+id)))
}

// Remove deletes a container's directory. The sources of volumes stay as they
// are.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	ctx, done, err := r.enter(ctx)
	if err != nil {
		return opError("remove", id, err)
	}
	defer done()
	return opError("remove", id, r.remove(ctx, id))
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
	_, err = os.Lstat(r.path(".old-" + id))
	resumed := err == nil
	if err := r.sweep(id); err != nil {
		return err
	}
	if r.current(id) != nil {
		return runtime.ErrRunning
	}
	st, c, err := r.observe(id)
	if errors.Is(err, runtime.ErrNotFound) && resumed {
		return nil
	}
	if err != nil {
		return err
	}
	if st.PID != 0 {
		return runtime.ErrRunning
	}
	if err := killAll(ctx, id, c.Process, nil); err != nil {
		return err
	}
	err = os.Rename(r.path(id), r.path(".old-"+id))
	if errors.Is(err, fs.ErrNotExist) {
		err = runtime.ErrNotFound // another process was faster
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.runs, id)
	r.mu.Unlock()
	return hostdir.RemoveTree(r.path(".old-" + id))
}

// exists tells whether the runtime has a container.
func (r *Runtime) exists(id string) error {
	if runtime.CheckID(id) != nil {
		return runtime.ErrNotFound
	}
	if _, err := os.Stat(r.path(id, "config.json")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return runtime.ErrNotFound
		}
		return fmt.Errorf("look for the container: %w", err)
	}
	return nil
}
