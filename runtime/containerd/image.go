//go:build linux

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrPlatform: an image is not for this machine's operating system and
// processor.
var ErrPlatform = errors.New("the image is not for this machine")

// normalise turns a name as people type it into a full one: "nginx" is
// docker.io/library/nginx:latest.
func normalise(name string) (string, error) {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", name, err)
	}
	return ref.String(), nil
}

// image returns the image of a container, ready to make snapshots of. It is
// fetched if the pull policy says so, or if it is not the one any more that was
// pulled for the container.
func (r *Runtime) image(ctx context.Context, c *client.Client, cfg runtime.Config, report func(runtime.PullProgress)) (client.Image, error) {
	name, err := normalise(cfg.Spec.Image.DockerImage)
	if err != nil {
		return nil, err
	}
	unlock, err := r.refs.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	progress := newReporter(name, report)
	img, err := r.local(ctx, c, name, cfg)
	end := runtime.PullProgress{Step: runtime.PullPresent}
	if err == nil && img == nil {
		end.Step = runtime.PullDone
		img, err = r.pullAlone(ctx, c, name, cfg, progress)
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	if err := unpack(ctx, img); err != nil {
		return nil, err
	}
	progress.step(end)
	return img, nil
}

// unpack makes an image ready to make snapshots of, if it is not yet.
func unpack(ctx context.Context, img client.Image) error {
	unpacked, err := img.IsUnpacked(ctx, snapshotter)
	if err == nil && !unpacked {
		err = img.Unpack(ctx, snapshotter)
	}
	if err != nil {
		return fmt.Errorf("unpack image %s: %w", img.Name(), err)
	}
	return nil
}

// local returns the image that is on this machine, nil if it is to be pulled.
func (r *Runtime) local(ctx context.Context, c *client.Client, name string, cfg runtime.Config) (client.Image, error) {
	policy := cfg.Spec.Image.Pull
	if policy == bunfile.PullAlways && cfg.ImageDigest == "" {
		return nil, nil
	}
	if cfg.ImageDigest != "" {
		if img, err := exactly(ctx, c, name, digest.Digest(cfg.ImageDigest)); img != nil || err != nil {
			return img, err
		}
	}
	img, err := c.GetImage(ctx, name)
	switch {
	case err == nil && policy == bunfile.PullAlways:
		return nil, nil // it is another one by now
	case err == nil:
		return img, checkPlatform(ctx, img)
	case !errdefs.IsNotFound(err):
		return nil, err
	case policy == bunfile.PullNever:
		return nil, fmt.Errorf("it is not on this machine, and image.pull is never: pull it with \"ctr -n %s images pull %s\", or let image.pull be missing", r.namespace, name)
	}
	return nil, nil
}

// exactly returns the image with a certain root that has a name, or the name by
// that root's digest; nil if there is none.
func exactly(ctx context.Context, c *client.Client, name string, root digest.Digest) (client.Image, error) {
	byDigest, err := nameByDigest(name, root)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{name, byDigest} {
		img, err := c.GetImage(ctx, name)
		switch {
		case err == nil && img.Target().Digest == root:
			return img, checkPlatform(ctx, img)
		case err != nil && !errdefs.IsNotFound(err):
			return nil, err
		}
	}
	return nil, nil
}

// nameByDigest returns the name of an image by its root's digest, such as
// docker.io/library/nginx@sha256:…
func nameByDigest(name string, root digest.Digest) (string, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", err
	}
	if err := root.Validate(); err != nil {
		return "", fmt.Errorf("digest %q of image %s: %w", root, name, err)
	}
	exact, err := reference.WithDigest(reference.TrimNamed(ref), root)
	if err != nil {
		return "", err
	}
	return exact.String(), nil
}

// domainOf returns the registry of a full name.
func domainOf(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.Domain(ref)
}

func unexpectedStatus(err error) (remoteserrors.ErrUnexpectedStatus, bool) {
	return errors.AsType[remoteserrors.ErrUnexpectedStatus](err)
}

func wantsLogin(err error) bool {
	status, ok := unexpectedStatus(err)
	return ok && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden) ||
		errors.Is(err, docker.ErrInvalidAuthorization)
}

// checkPlatform looks whether a local image is for this machine. The client
// itself looks only at what is in an index.
func checkPlatform(ctx context.Context, img client.Image) error {
	spec, err := img.Spec(ctx)
	if err == nil {
		return matchPlatform(spec.Platform)
	}
	if !errdefs.IsNotFound(err) {
		return err
	}
	has, perr := images.Platforms(ctx, img.ContentStore(), img.Target())
	if perr != nil || len(has) == 0 {
		return err
	}
	return wrongPlatform(has)
}

func matchPlatform(p ocispec.Platform) error {
	if p.OS == "" || platforms.Default().Match(platforms.Normalize(p)) {
		return nil
	}
	return wrongPlatform([]ocispec.Platform{p})
}

func wrongPlatform(has []ocispec.Platform) error {
	var names []string
	for _, p := range has {
		names = append(names, platforms.Format(p))
	}
	return fmt.Errorf("%w: it is for %s, and this is %s; use an image that is made for that", ErrPlatform, strings.Join(names, ", "), platforms.Format(platforms.DefaultSpec()))
}

// refuseForeign looks at an image's configuration before its layers are
// fetched: one that is for another platform does not deserve the transfer.
func refuseForeign(store content.Provider) func(images.Handler) images.Handler {
	return func(next images.Handler) images.Handler {
		var started atomic.Bool
		return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
			if !started.Swap(true) && !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
				return nil, fmt.Errorf("it answers with %s, which is no image", desc.MediaType)
			}
			children, err := next.Handle(ctx, desc)
			if errdefs.IsNotFound(err) && images.IsIndexType(desc.MediaType) {
				return nil, errors.Join(checkIndex(ctx, store, desc), err)
			}
			if err != nil || !images.IsManifestType(desc.MediaType) {
				return children, err
			}
			for _, child := range children {
				if !images.IsConfigType(child.MediaType) {
					continue
				}
				if _, err := next.Handle(ctx, child); err != nil {
					return nil, err
				}
				if err := checkConfig(ctx, store, child); err != nil {
					return nil, err
				}
			}
			return children, nil
		})
	}
}

// checkIndex looks whether an index has an image for this machine.
func checkIndex(ctx context.Context, store content.Provider, desc ocispec.Descriptor) error {
	data, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("the image's index is damaged: %w", err)
	}
	var has []ocispec.Platform
	for _, m := range index.Manifests {
		// What belongs to an image, such as an attestation, has an unknown platform.
		if m.Platform != nil && m.Platform.OS != "unknown" {
			has = append(has, *m.Platform)
		}
	}
	if len(has) == 0 || slices.ContainsFunc(has, platforms.Default().Match) {
		return nil
	}
	return wrongPlatform(has)
}

func checkConfig(ctx context.Context, store content.Provider, desc ocispec.Descriptor) error {
	data, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return err
	}
	var p ocispec.Platform
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("the image's configuration is damaged: %w", err)
	}
	return matchPlatform(p)
}
