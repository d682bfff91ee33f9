//go:build linux

package containerd

import (
	"cmp"
	"context"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// digestLabel keeps the digest of the image that a container is made of: a tag
// moves on.
const digestLabel = "budgie.image.digest"

// Inspect returns [Details].
func (r *Runtime) Inspect(ctx context.Context, id string) (any, error) {
	ctx, done, err := r.enter(ctx, "inspect", id)
	if err != nil {
		return nil, err
	}
	d, err := r.inspect(ctx, id)
	if err = done(explainShim(ctx, id, err)); err != nil {
		return nil, err
	}
	return d, nil
}

func (r *Runtime) inspect(ctx context.Context, id string) (Details, error) {
	cfg, err := r.loadConfig(id)
	if err != nil {
		return Details{}, err
	}
	st, err := r.status(ctx, id)
	if err != nil {
		return Details{}, err
	}
	c, err := r.client(ctx)
	if err != nil {
		return Details{}, err
	}
	container, err := c.LoadContainer(ctx, id)
	if err != nil {
		return Details{}, err
	}
	info, err := container.Info(ctx, client.WithoutRefreshedMetadata)
	if err != nil {
		return Details{}, err
	}
	spec, err := container.Spec(ctx)
	if err != nil {
		return Details{}, err
	}
	digest, err := imageDigest(ctx, c, info)
	if err != nil {
		return Details{}, err
	}
	return Details{
		Address: r.address, Namespace: r.namespace,
		Image:    ImageDetails{Name: info.Image, Digest: digest},
		Snapshot: SnapshotDetails{Snapshotter: info.Snapshotter, Key: info.SnapshotKey},
		Network:  r.networkDetails(cfg, st),
		PID:      st.PID, StartedAt: st.StartedAt, Supervised: r.supervised(id),
		Dir: r.path(id), LogDir: r.path(id, "log"),
		Labels: info.Labels, Mounts: spec.Mounts, Spec: spec,
	}, nil
}

// imageDigest returns the digest of what a container was made of, which
// containers of earlier versions do not know.
func imageDigest(ctx context.Context, c *client.Client, info containers.Container) (string, error) {
	if digest := info.Labels[digestLabel]; digest != "" {
		return digest, nil
	}
	img, err := c.ImageService().Get(ctx, info.Image)
	if err != nil {
		return "", gone(err)
	}
	return img.Target.Digest.String(), nil
}

func (r *Runtime) networkDetails(cfg runtime.Config, st runtime.Status) NetworkDetails {
	d := NetworkDetails{Mode: cmp.Or(cfg.Spec.Network, bunfile.NetworkBridge)}
	if st.State != lifecycle.Running {
		return d
	}
	d.Ports = st.Addresses
	if d.Mode == bunfile.NetworkBridge {
		d.Namespace = netnsPath(cfg.ID)
		d.Address = r.ownAddress(cfg.ID)
	}
	return d
}

// ownAddress returns the address that the bridge gave a container, empty where
// that is not known.
func (r *Runtime) ownAddress(id string) string {
	cni, err := r.cni(nil) // no plugin is run
	if err != nil {
		return ""
	}
	cached, err := cni.GetNetworkListCachedResult(cni.list, attachment(id))
	if err != nil || cached == nil {
		return ""
	}
	result, err := types100.NewResultFromResult(cached)
	if err != nil || len(result.IPs) == 0 {
		return ""
	}
	return result.IPs[0].Address.IP.String()
}

// The optional abilities.
var (
	_ runtime.Logger      = (*Runtime)(nil)
	_ runtime.Execer      = (*Runtime)(nil)
	_ runtime.Puller      = (*Runtime)(nil)
	_ runtime.ImageSource = (*Runtime)(nil)
	_ runtime.ImageSink   = (*Runtime)(nil)
	_ runtime.Statser     = (*Runtime)(nil)
	_ runtime.Inspector   = (*Runtime)(nil)
)
