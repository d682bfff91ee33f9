//go:build linux

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrPlatform: an image is not for this machine's operating system and
// processor.
var ErrPlatform = errors.New("the image is not for this machine")

// hostsDir is where containerd's users configure registries.
const hostsDir = "/etc/containerd/certs.d"

// normalise turns a name as people type it into a full one: "nginx" is
// docker.io/library/nginx:latest.
func normalise(name string) (string, error) {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", name, err)
	}
	return ref.String(), nil
}

// image returns a specification's image, ready to make snapshots of. It is
// fetched if the pull policy says so. The caller holds a lease.
func (r *Runtime) image(ctx context.Context, c *client.Client, spec bunfile.Image) (client.Image, error) {
	name, err := normalise(spec.DockerImage)
	if err != nil {
		return nil, err
	}
	unlock, err := r.refs.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	img, err := r.local(ctx, c, name, spec.Pull)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	unpacked, err := img.IsUnpacked(ctx, "")
	if err == nil && !unpacked {
		err = img.Unpack(ctx, "")
	}
	if err != nil {
		return nil, fmt.Errorf("unpack image %s: %w", name, err)
	}
	return img, nil
}

func (r *Runtime) local(ctx context.Context, c *client.Client, name string, policy bunfile.PullPolicy) (client.Image, error) {
	if policy != bunfile.PullAlways {
		img, err := c.GetImage(ctx, name)
		switch {
		case err == nil:
			return img, checkPlatform(ctx, img)
		case !errdefs.IsNotFound(err):
			return nil, err
		case policy == bunfile.PullNever:
			return nil, fmt.Errorf("it is not on this machine, and image.pull is never: pull it with \"ctr -n %s images pull %s\", or let image.pull be missing", r.namespace, name)
		}
	}
	img, err := c.Pull(ctx, name, client.WithResolver(resolver(ctx)), client.WithImageHandlerWrapper(refuseForeign(c.ContentStore())))
	if err != nil {
		return nil, explainPull(name, err)
	}
	return img, nil
}

// resolver reaches registries as containerd's other users do.
func resolver(ctx context.Context) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: config.ConfigureHosts(ctx, config.HostOptions{HostDir: config.HostDirFromRoot(hostsDir)}),
	})
}

// explainPull says what to do about a failed pull.
func explainPull(name string, err error) error {
	domain := ""
	if ref, perr := reference.ParseNormalizedNamed(name); perr == nil {
		domain = reference.Domain(ref)
	}
	switch {
	case errors.Is(err, ErrPlatform), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errdefs.IsNotFound(err):
		return fmt.Errorf("the registry %s does not have it; check its name and tag: %w", domain, err)
	case wantsLogin(err):
		return fmt.Errorf("the registry %s wants a login, or does not have it: %w", domain, err)
	}
	return fmt.Errorf("pull it from %s: %w", domain, err)
}

func wantsLogin(err error) bool {
	status, ok := errors.AsType[remoteserrors.ErrUnexpectedStatus](err)
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
	return fmt.Errorf("%w: it is for %v, and this is %s; use an image that is made for that", ErrPlatform, names, platforms.Format(platforms.DefaultSpec()))
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
