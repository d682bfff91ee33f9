//go:build linux

package containerd

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/freeport"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	snapshotter = defaults.DefaultSnapshotter
	// minMemory is the least memory in which runc can start a container.
	minMemory = 6 << 20
	// cpuPeriod is the period of cpu_quota in microseconds.
	cpuPeriod = 100_000
)

func checkResources(res bunfile.Resources) error {
	if res.MemoryLimit > 0 && res.MemoryLimit < minMemory {
		return fmt.Errorf("resources.memory_limit is %d bytes; a container needs %d (6MiB) at least", res.MemoryLimit, minMemory)
	}
	if res.MemorySwap > 0 && res.MemorySwap < res.MemoryLimit {
		return fmt.Errorf("resources.memory_swap (%d bytes) is memory and swap together, and less than memory_limit (%d)", res.MemorySwap, res.MemoryLimit)
	}
	return nil
}

// specOptions returns what makes the OCI runtime specification. The snapshot
// exists when they are applied.
func (r *Runtime) specOptions(img client.Image, cfg runtime.Config) []oci.SpecOpts {
	spec := cfg.Spec
	inside := []oci.SpecOpts{withImage(img, spec.Image), withValues}
	opts := []oci.SpecOpts{
		oci.WithHostname(hostname(cfg)),
		withLimits,
		oci.WithNoNewPrivileges,
		withImagePorts(cfg),
		oci.WithEnv(append(slices.Clone(spec.Environment),
			"BUDGIE_NAME="+spec.Name, "BUDGIE_CONTAINER_ID="+cfg.ID)),
		oci.WithMounts(r.mounts(cfg)),
		withResources(spec.Resources),
	}
	if spec.Image.Workdir != "" {
		inside = append(inside, oci.WithProcessCwd(spec.Image.Workdir))
	}
	if spec.Image.User != "" {
		inside = append(inside, withUser(spec.Image.User, "image.user"))
	}
	inside = append(inside, withChecks(spec))
	switch spec.Network {
	case bunfile.NetworkHost:
		opts = append(opts, oci.WithHostNamespace(specs.NetworkNamespace))
	case bunfile.NetworkNone:
	default:
		opts = append(opts, oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: netnsPath(cfg.ID)}))
	}
	first := []oci.SpecOpts{oci.WithDefaultSpec(), oci.WithDefaultUnixDevices, r.withRootfs(cfg.ID, inside...)}
	// The filter depends on the capabilities.
	return slices.Concat(first, opts, []oci.SpecOpts{seccomp.WithDefaultProfile()})
}

// withLimits has a container's processes inherit their limits from containerd, which
// systemd gives as many open files as the kernel allows. Those of containerd's default
// specification are 1024, which are too few for a server's connections, and to set a
// number needs a capability that containerd may not have.
func withLimits(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
	s.Process.Rlimits = nil
	return nil
}

// withImage takes what the image's configuration says of the process. Its user
// does not matter where image.user names another one.
func withImage(img client.Image, want bunfile.Image) oci.SpecOpts {
	return func(ctx context.Context, c oci.Client, container *containers.Container, s *oci.Spec) error {
		err := oci.WithImageConfigArgs(img, want.Command)(ctx, c, container, s)
		if err == nil {
			return nil
		}
		conf, confErr := img.Spec(ctx)
		if confErr != nil || conf.Config.User == "" {
			return err
		}
		// It is looked up last. A specification of which nothing is used tells
		// whether that is what failed.
		scratch := oci.Spec{Root: s.Root, Linux: s.Linux, Process: &specs.Process{}}
		userErr := withUser(conf.Config.User, "the user from the image's config (USER)")(ctx, c, container, &scratch)
		switch {
		case userErr == nil:
			return err
		case want.User != "":
			return nil
		}
		return fmt.Errorf("%w: image.user can name another one", userErr)
	}
}

// withValues leaves out what an image's environment names without a value: runc refuses
// all of it then, and Docker leaves these out, too.
func withValues(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
	s.Process.Env = slices.DeleteFunc(s.Process.Env, func(kv string) bool { return strings.IndexByte(kv, '=') <= 0 })
	return nil
}

// withUser looks a user up in the image. where says who names the user.
func withUser(user, where string) oci.SpecOpts {
	return func(ctx context.Context, c oci.Client, container *containers.Container, s *oci.Spec) error {
		for _, opt := range []oci.SpecOpts{oci.WithUser(user), oci.WithAdditionalGIDs(user)} {
			if err := opt(ctx, c, container, s); err != nil {
				return fmt.Errorf("%s: %q is not in the image: %w", where, user, err)
			}
		}
		return nil
	}
}

func hostname(cfg runtime.Config) string {
	switch {
	case cfg.Spec.Hostname != "":
		return cfg.Spec.Hostname
	case cfg.Spec.Name != "":
		return cfg.Spec.Name
	}
	return cfg.ID[:12]
}

// withImagePorts tells a container with a network of its own in which ports it
// is expected to listen, unless its image says so itself. In the host's network
// they are chosen at every start.
func withImagePorts(cfg runtime.Config) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		if cfg.Spec.Network == bunfile.NetworkHost {
			return nil
		}
		for _, kv := range freeport.Environment(addresses(cfg.Spec.Ports, "")) {
			s.Process.Env = addEnv(s.Process.Env, kv, false)
		}
		return nil
	}
}

// addEnv sets a KEY=value, in place of one that is there if replace is set.
func addEnv(env []string, kv string, replace bool) []string {
	key, _, _ := strings.Cut(kv, "=")
	i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, key+"=") })
	switch {
	case i < 0:
		return append(env, kv)
	case replace:
		env[i] = kv
	}
	return env
}

// mounts are the volumes and what every container gets of the host's /etc. What is below
// another target is mounted after it, or it would be hidden.
func (r *Runtime) mounts(cfg runtime.Config) []specs.Mount {
	var out []specs.Mount
	for _, name := range etcFiles {
		if target := "/etc/" + name; hasPlace(cfg.Spec.Volumes, target) {
			out = append(out, specs.Mount{
				Type: "bind", Source: r.path(cfg.ID, "etc", name), Destination: target,
				Options: []string{"rbind", "rprivate", "rw"},
			})
		}
	}
	for _, v := range cfg.Spec.Volumes {
		mode := "rw"
		if v.Mode == bunfile.ReadOnly {
			mode = "ro"
		}
		out = append(out, specs.Mount{
			Type: "bind", Source: v.Source, Destination: path.Clean(v.Target), Options: []string{"rbind", "rprivate", mode},
		})
	}
	depth := func(m specs.Mount) int { return strings.Count(strings.TrimSuffix(m.Destination, "/"), "/") }
	slices.SortStableFunc(out, func(a, b specs.Mount) int { return cmp.Compare(depth(a), depth(b)) })
	return out
}

// hasPlace reports whether a file can be mounted at a target. In a volume that may be
// written the place for it is made; one that is read only has it or not.
func hasPlace(volumes []bunfile.Volume, target string) bool {
	var in *bunfile.Volume // the innermost
	for i, v := range volumes {
		dir := strings.TrimSuffix(path.Clean(v.Target), "/") + "/"
		if strings.HasPrefix(target, dir) && (in == nil || len(dir) > len(path.Clean(in.Target))) {
			in = &volumes[i]
		}
	}
	if in == nil || in.Mode != bunfile.ReadOnly {
		return true
	}
	_, err := os.Stat(filepath.Join(in.Source, strings.TrimPrefix(target, path.Clean(in.Target))))
	return err == nil
}

func withResources(res bunfile.Resources) oci.SpecOpts {
	var opts []oci.SpecOpts
	if res.CPUShares > 0 {
		opts = append(opts, oci.WithCPUShares(uint64(res.CPUShares)))
	}
	if res.CPUQuota > 0 {
		opts = append(opts, oci.WithCPUCFS(res.CPUQuota, cpuPeriod))
	}
	if res.MemoryLimit > 0 {
		opts = append(opts, oci.WithMemoryLimit(uint64(res.MemoryLimit)))
	}
	if res.MemorySwap != 0 {
		opts = append(opts, oci.WithMemorySwap(int64(res.MemorySwap)))
	}
	if res.PidsLimit > 0 {
		opts = append(opts, oci.WithPidsLimit(res.PidsLimit))
	}
	if res.BlkioWeight > 0 {
		weight := uint16(min(res.BlkioWeight, 1000)) // checked when it was read
		opts = append(opts, oci.WithBlockIO(&specs.LinuxBlockIO{Weight: &weight}))
	}
	return oci.Compose(opts...)
}
