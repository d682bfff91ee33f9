//go:build linux || darwin

package process

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path"
	"strconv"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// Supports refuses what a plain process cannot be: an image, a network of its
// own, another user, volumes inside each other.
func (r *Runtime) Supports(ctx context.Context, spec bunfile.Spec) error {
	_, done, err := r.enter(ctx)
	if err != nil {
		return opError("supports", "", err)
	}
	defer done()
	return supports(spec)
}

// Prepare keeps the caller's PATH in the specification, unless that has its
// own: a command is found where whoever asks for it finds it, also when a
// supervisor that was started elsewhere runs it.
func (r *Runtime) Prepare(ctx context.Context, spec bunfile.Spec) (bunfile.Spec, error) {
	_, done, err := r.enter(ctx)
	if err != nil {
		return bunfile.Spec{}, opError("prepare", "", err)
	}
	defer done()
	r.warn(spec) // here too, where whoever asks sees it
	path, set := os.LookupEnv("PATH")
	if set && getEnv(spec.Environment, "PATH") == "" {
		spec = spec.Clone()
		spec.Environment = append(spec.Environment, "PATH="+path)
	}
	return spec, nil
}

// warn says once what of a specification is accepted and not enforced.
func (r *Runtime) warn(spec bunfile.Spec) {
	if spec.Resources != (bunfile.Resources{}) {
		r.warnLimits.Do(func() {
			r.log.Warn("resource limits are not enforced by the process runtime", "name", spec.Name)
		})
	}
}

func supports(spec bunfile.Spec) error {
	switch {
	case spec.Image.DockerImage != "":
		return fmt.Errorf("%w: docker_image %q needs a container runtime, such as containerd; this one runs only commands of this machine. In a program, import runtime/containerd and give its New to WithRuntime",
			runtime.ErrUnsupported, spec.Image.DockerImage)
	case len(spec.Image.Command) == 0 || spec.Image.Command[0] == "":
		return fmt.Errorf("%w: there is no image.command to run", runtime.ErrUnsupported)
	case spec.Network == bunfile.NetworkNone:
		return fmt.Errorf("%w: network none needs a container runtime; a process shares the machine's network", runtime.ErrUnsupported)
	}
	if err := supportsUser(spec.Image.User); err != nil {
		return err
	}
	return supportsVolumes(spec.Volumes)
}

// supportsUser accepts the user who runs this program, under any of his names.
func supportsUser(want string) error {
	if want == "" {
		return nil
	}
	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	name, group, withGroup := strings.Cut(want, ":")
	same := name == uid
	if !same {
		u, err := user.Lookup(name)
		same = err == nil && u.Uid == uid
	}
	if same && withGroup && group != gid {
		g, err := user.LookupGroup(group)
		same = err == nil && g.Gid == gid
	}
	if !same {
		return fmt.Errorf("%w: image.user %q is not the current user (%s:%s): run this program as that user, or use a container runtime",
			runtime.ErrUnsupported, want, uid, gid)
	}
	return nil
}

func supportsVolumes(volumes []bunfile.Volume) error {
	targets := make([]string, len(volumes))
	for i, v := range volumes {
		targets[i] = path.Clean("/" + v.Target)
		if targets[i] == "/" {
			return fmt.Errorf("%w: volume target %q is the whole root; a process can only have volumes below it", runtime.ErrUnsupported, v.Target)
		}
		for j := range i {
			if within(targets[i], targets[j]) || within(targets[j], targets[i]) {
				return fmt.Errorf("%w: volume targets %q and %q are inside each other, which needs a container runtime",
					runtime.ErrUnsupported, volumes[j].Target, v.Target)
			}
		}
	}
	return nil
}

// within reports whether clean path a is b or below it.
func within(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/")
}
