//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/continuity/fs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// withChecks says what of a specification does not fit its image before the
// container is made, in words of ours.
func withChecks(spec bunfile.Spec) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		if len(s.Process.Args) == 0 || s.Process.Args[0] == "" {
			return fmt.Errorf("the image %s has no command of its own: set image.command", spec.Image.DockerImage)
		}
		return errors.Join(checkDirectories(s.Root.Path, s.Process.Cwd, spec), lookCommand(s.Root.Path, s.Process, spec))
	}
}

// checkVolumes refuses targets at which nothing can be mounted.
func checkVolumes(volumes []bunfile.Volume) error {
	var errs []error
	for _, v := range volumes {
		target := path.Clean(v.Target)
		switch {
		case target == "/proc" || strings.HasPrefix(target, "/proc/"):
			errs = append(errs, fmt.Errorf("volume target %q is in /proc, where the kernel shows processes: choose another one", v.Target))
		case target == "/dev":
			errs = append(errs, fmt.Errorf("volume target %q would hide the devices that each container gets: choose a directory below it", v.Target))
		case path.Dir(target) == "/etc" && slices.Contains(etcFiles[:], path.Base(target)):
			errs = append(errs, fmt.Errorf("volume target %q is a file that each container gets, and a volume is a directory: choose another one", v.Target))
		}
	}
	return errors.Join(errs...)
}

// checkDirectories refuses a working directory and targets of volumes that are
// something else in the image. What is not there is made.
func checkDirectories(root, cwd string, spec bunfile.Spec) error {
	var errs []error
	check := func(dir, what string) {
		for at := path.Clean(dir); at != "/" && at != "."; at = path.Dir(at) {
			real, err := fs.RootPath(root, at)
			if err != nil {
				continue // the runtime says so
			}
			if info, err := os.Stat(real); err == nil && !info.IsDir() {
				if at != path.Clean(dir) {
					what += fmt.Sprintf(" %q cannot be made:", dir)
				}
				errs = append(errs, fmt.Errorf("%s %q is no directory in image %s", what, at, spec.Image.DockerImage))
				return
			}
		}
	}
	if !path.IsAbs(cwd) {
		errs = append(errs, fmt.Errorf("working directory %q of image %s is not an absolute path: set image.workdir", cwd, spec.Image.DockerImage))
	}
	check(cwd, "working directory")
	for _, v := range spec.Volumes {
		check(v.Target, "volume target")
	}
	return errors.Join(errs...)
}

// lookCommand looks for a command where the runtime will. What may be in a
// volume is not looked for.
func lookCommand(root string, p *specs.Process, spec bunfile.Spec) error {
	command := p.Args[0]
	var candidates []string
	if strings.Contains(command, "/") {
		if !path.IsAbs(command) {
			command = path.Join(p.Cwd, command)
		}
		candidates = []string{command}
	} else {
		i := slices.IndexFunc(p.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })
		if i < 0 {
			return nil // runc has a list of its own
		}
		for _, dir := range filepath.SplitList(p.Env[i][len("PATH="):]) {
			candidates = append(candidates, path.Join(p.Cwd, dir, command), path.Join("/", dir, command))
		}
	}
	problem := errors.New("there is no such file")
	for _, file := range candidates {
		for _, v := range spec.Volumes {
			if target := path.Clean(v.Target); file == target || strings.HasPrefix(file, target+"/") {
				return nil
			}
		}
		real, err := fs.RootPath(root, file)
		if err != nil {
			continue
		}
		info, err := os.Stat(real)
		switch {
		case err != nil:
		case info.IsDir():
			problem = errors.New("it is a directory")
		case info.Mode()&0o111 == 0:
			problem = errors.New("it is not executable")
		default:
			return nil
		}
	}
	return fmt.Errorf("command %q cannot be run in image %s: %w", p.Args[0], spec.Image.DockerImage, problem)
}
