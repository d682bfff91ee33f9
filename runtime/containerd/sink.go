//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Fetch makes an image ready to run that others have: see [runtime.ImageSink].
func (r *Runtime) Fetch(ctx context.Context, image bunfile.Image, root runtime.Descriptor, from []runtime.BlobSource, report func(runtime.PullProgress)) (string, error) {
	ctx, done, err := r.enter(ctx, "fetch", "")
	if err != nil {
		return "", err
	}
	c, err := r.client(ctx)
	if err != nil {
		return "", done(err)
	}
	name, err := normalise(image.DockerImage)
	if err != nil {
		return "", done(err)
	}
	progress := newReporter(name, report)
	g := newGathering(c.ContentStore(), r.stall, progress, from)
	g.registry = image.Pull != bunfile.PullNever
	if err := r.fetch(ctx, c, name, root, g); err != nil {
		return "", done(fmt.Errorf("image %s: %w", name, err))
	}
	return root.Digest, done(nil)
}

func (r *Runtime) fetch(ctx context.Context, c *client.Client, name string, root runtime.Descriptor, g *gathering) error {
	target := ocispec.Descriptor{MediaType: root.MediaType, Digest: digest.Digest(root.Digest), Size: root.Size}
	exact, err := nameByDigest(name, target.Digest)
	if err != nil {
		return err
	}
	if id := digestOf(name); id != "" && id != target.Digest {
		return fmt.Errorf("the sources have %s instead", target.Digest)
	}
	unlock, err := r.refs.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	img, err := whole(ctx, c, name, target.Digest)
	end := runtime.PullPresent
	if err == nil && img == nil {
		img, err = r.alone(ctx, name, func() (client.Image, error) {
			// Another program may have fetched it just now.
			if img, err := whole(ctx, c, name, target.Digest); img != nil || err != nil {
				return img, err
			}
			end = runtime.PullDone
			return r.gather(ctx, c, name, exact, target, g)
		})
	}
	if err == nil {
		// One that was killed may not have come to that.
		img, err = r.named(ctx, c, name, img)
	}
	if err != nil {
		return err
	}
	if err := unpack(ctx, img); err != nil {
		return err
	}
	g.report.step(runtime.PullProgress{Step: end})
	return nil
}

// whole returns the image with a certain root if all is there that is needed to
// run it, else nil.
func whole(ctx context.Context, c *client.Client, name string, root digest.Digest) (client.Image, error) {
	img, err := exactly(ctx, c, name, root)
	if errdefs.IsNotFound(err) {
		return nil, nil // a part of it is missing
	}
	if img == nil || err != nil {
		return nil, err
	}
	if unpacked, err := img.IsUnpacked(ctx, snapshotter); unpacked || err != nil {
		return img, err
	}
	complete, _, _, missing, err := images.Check(ctx, c.ContentStore(), img.Target(), platforms.Default())
	if err != nil || !complete || len(missing) > 0 {
		return nil, err
	}
	return img, nil
}

// gather fetches an image and gives it its name.
func (r *Runtime) gather(ctx context.Context, c *client.Client, name, exact string, target ocispec.Descriptor, g *gathering) (client.Image, error) {
	_, err := c.ImageService().Get(ctx, exact)
	temporary := errdefs.IsNotFound(err)
	img, err := r.pull(ctx, c, name, r.sources(ctx, name, exact, target, g), g.report)
	if err != nil {
		return nil, err
	}
	if img, err = r.named(ctx, c, name, img); err != nil {
		return nil, err
	}
	if temporary && img.Name() != exact {
		err = gone(c.ImageService().Delete(ctx, exact))
	}
	return img, err
}

// named gives an image a name, if that does not stand for another image here.
func (r *Runtime) named(ctx context.Context, c *client.Client, name string, img client.Image) (client.Image, error) {
	if img.Name() == name {
		return img, nil
	}
	is, err := c.ImageService().Create(ctx, images.Image{Name: name, Target: img.Target()})
	if errdefs.IsAlreadyExists(err) {
		is, err = c.ImageService().Get(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	if is.Target.Digest != img.Target().Digest {
		r.log.Warn("an image keeps its name, and the one that was fetched has its name by digest", "image", name, "fetched", img.Name())
		return img, nil
	}
	return client.NewImage(c, is), nil
}

// sources are where Fetch gets an image from: others, and for the parts that
// those do not have, the registry that its name says.
func (r *Runtime) sources(ctx context.Context, name, exact string, target ocispec.Descriptor, g *gathering) origin {
	reg := r.newRegistries(g.report.read)
	g.explain = func(err error) error { return r.explainPull(name, reg, err) }
	return origin{
		name: exact, wrap: g.handler, again: g.pardon,
		resolver: &fixedResolver{target: target, fetcher: func(ctx context.Context) (remotes.Fetcher, error) {
			return reg.resolver(ctx, r.registryDirs).Fetcher(ctx, name)
		}},
		lasting: func(err error) bool { return broken(err) || errors.Is(err, runtime.ErrNoBlob) },
		explain: func(err error) error {
			if fullDisk(err) {
				return g.explain(err)
			}
			return err
		},
	}
}

// fixedResolver knows what an image's name stands for.
type fixedResolver struct {
	target  ocispec.Descriptor
	fetcher func(context.Context) (remotes.Fetcher, error)
}

// Resolve implements remotes.Resolver.
func (f *fixedResolver) Resolve(_ context.Context, ref string) (string, ocispec.Descriptor, error) {
	return ref, f.target, nil
}

// Fetcher implements remotes.Resolver.
func (f *fixedResolver) Fetcher(ctx context.Context, _ string) (remotes.Fetcher, error) {
	return f.fetcher(ctx)
}

// Pusher implements remotes.Resolver.
func (f *fixedResolver) Pusher(context.Context, string) (remotes.Pusher, error) {
	return nil, errdefs.ErrNotImplemented
}
