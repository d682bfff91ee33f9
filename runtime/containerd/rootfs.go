//go:build linux

package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
)

// withRootfs applies options that look into the container's file system, which
// is mounted for them read-only in the directory of the container that is being
// made: whoever finds that left behind finds the mount, too.
func (r *Runtime) withRootfs(id string, opts ...oci.SpecOpts) oci.SpecOpts {
	return func(ctx context.Context, c oci.Client, container *containers.Container, s *oci.Spec) (err error) {
		mounts, err := c.SnapshotService(container.Snapshotter).Mounts(ctx, container.SnapshotKey)
		if err != nil {
			return err
		}
		mounts = mount.RemoveVolatileOption(mounts)
		for i := range mounts {
			mounts[i].Options = append(mounts[i].Options[:len(mounts[i].Options):len(mounts[i].Options)], "ro")
		}
		dir := r.path(making + id)
		target := filepath.Join(dir, rootfs)
		if err := os.MkdirAll(target, 0o700); err != nil {
			return err
		}
		r.step(ctx, "mount the file system")
		defer func() { err = errors.Join(err, removeRootfs(dir)) }()
		if err := mount.All(mounts, target); err != nil {
			return err
		}
		// Options look there, and not into a mount of their own.
		root := s.Root.Path
		s.Root.Path = target
		defer func() { s.Root.Path = root }()
		err = oci.Compose(opts...)(ctx, c, container, s)
		r.step(ctx, "unmount the file system")
		return err
	}
}

// rootfs is where the file system is mounted in the directory of a container
// that is being made.
const rootfs = "rootfs"

// removeRootfs takes back what withRootfs mounted, if that is there.
func removeRootfs(dir string) error {
	target := filepath.Join(dir, rootfs)
	if err := mount.UnmountAll(target, 0); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
