//go:build linux

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// importExpiry is when containerd forgets what a killed Import left.
const importExpiry = 24 * time.Hour

// Import puts the images of an archive into containerd and returns their full
// names: a tar file, compressed or not, in the OCI image layout or as "docker
// save" writes it. An image that has the name of one of them is replaced. All
// are looked at before the first is put there: one that is not complete, has no
// name or is not for this machine (ErrPlatform) is an error that leaves nothing.
// ctx is looked at between two reads; a read that blocks is the caller's to end.
func (r *Runtime) Import(ctx context.Context, tarball io.Reader) ([]string, error) {
	ctx, done, err := r.enter(ctx, "import", "")
	if err != nil {
		return nil, err
	}
	names, err := r.importImages(ctx, tarball)
	return names, done(err)
}

func (r *Runtime) importImages(ctx context.Context, tarball io.Reader) (names []string, err error) {
	c, err := r.client(ctx)
	if err != nil {
		return nil, err
	}
	// What comes in is referred to by nothing yet but this lease.
	manager := c.LeasesService()
	lease, err := manager.Create(ctx, leases.WithRandomID(), leases.WithExpiration(importExpiry))
	if err != nil {
		return nil, err
	}
	defer func() {
		actx, cancel := afterwards(ctx)
		defer cancel()
		var opts []leases.DeleteOpt
		if err != nil {
			// The next attempt would go on with what is half there.
			opts = append(opts, leases.SynchronousDelete)
		}
		err = errors.Join(err, gone(manager.Delete(actx, lease, opts...)))
	}()
	ctx = leases.WithLease(ctx, lease.ID)
	found, err := readArchive(ctx, c, tarball)
	if err != nil {
		return nil, err
	}
	for _, img := range found {
		if err := putImage(ctx, c.ImageService(), img); err != nil {
			return nil, fmt.Errorf("image %s: %w", img.Name, err)
		}
		names = append(names, img.Name)
	}
	return names, nil
}

// readArchive puts an archive into the content store, and returns the images
// in it: one at least, and all of them whole.
func readArchive(ctx context.Context, c *client.Client, tarball io.Reader) ([]images.Image, error) {
	plain, err := compression.DecompressStream(contextReader{ctx, tarball})
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	defer plain.Close()
	store := c.ContentStore()
	top, err := archive.ImportIndex(ctx, store, plain)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	data, err := content.ReadBlob(ctx, store, top)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("the archive's index is damaged: %w", err)
	}
	if len(index.Manifests) == 0 {
		return nil, errors.New("there is no image in the archive")
	}
	var found []images.Image
	for _, m := range index.Manifests {
		img, err := namedImage(m)
		if err == nil {
			if err = checkComplete(ctx, c, img); err != nil {
				err = fmt.Errorf("image %s: %w", img.Name, err)
			}
		}
		if err != nil {
			return nil, err
		}
		found = append(found, img)
	}
	return found, nil
}

// namedImage returns an image of an archive under its full name.
func namedImage(m ocispec.Descriptor) (images.Image, error) {
	name := m.Annotations[images.AnnotationImageName]
	if name == "" {
		// The layout leaves open what this is: a tag alone names nothing.
		if name = m.Annotations[ocispec.AnnotationRefName]; !strings.ContainsAny(name, ":/") {
			return images.Image{}, fmt.Errorf("an image of the archive has no name, only %q: save it with a name and a tag, such as example.org/web:1", name)
		}
	}
	name, err := normalise(name)
	return images.Image{Name: name, Target: m}, err
}

// checkComplete checks that all of an image is there that this machine needs,
// and ties it together, so that it stays as long as the image does.
func checkComplete(ctx context.Context, c *client.Client, img images.Image) error {
	store, mine := c.ContentStore(), platforms.Default()
	if err := checkPlatform(ctx, client.NewImage(c, img)); err != nil {
		if errdefs.IsNotFound(err) {
			return fmt.Errorf("the archive is not complete: %w", err)
		}
		return err
	}
	available, _, _, missing, err := images.Check(ctx, store, img.Target, mine)
	switch {
	case err != nil:
		return err
	case len(missing) > 0:
		return fmt.Errorf("the archive is not complete: it lacks %s", missing[0].Digest)
	case !available:
		return errors.New("the archive is not complete: it lacks the manifest")
	}
	children := images.SetChildrenLabels(store, images.FilterPlatforms(images.ChildrenHandler(store), mine))
	return images.Walk(ctx, children, img.Target)
}

func putImage(ctx context.Context, store images.Store, img images.Image) error {
	_, err := store.Create(ctx, img)
	if errdefs.IsAlreadyExists(err) {
		_, err = store.Update(ctx, img, "target")
	}
	return err
}

// RemoveImage removes an image, and waits until containerd has deleted what
// only that image needed. What containers need of it stays as long as they do.
// One that is not there is no error.
func (r *Runtime) RemoveImage(ctx context.Context, name string) error {
	ctx, done, err := r.enter(ctx, "remove image", "")
	if err != nil {
		return err
	}
	return done(r.removeImage(ctx, name))
}

func (r *Runtime) removeImage(ctx context.Context, name string) error {
	full, err := normalise(name)
	if err != nil {
		return err
	}
	c, err := r.client(ctx)
	if err != nil {
		return err
	}
	if err := gone(c.ImageService().Delete(ctx, full, images.SynchronousDelete())); err != nil {
		return fmt.Errorf("image %s: %w", full, err)
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
