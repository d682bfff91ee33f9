//go:build linux || darwin

package process

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
)

// linkVolumes makes each volume appear under its target. Where a container put
// something else in that place, it is told so rather than losing it.
func linkVolumes(dir string, volumes []bunfile.Volume) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, v := range volumes {
		target := strings.TrimPrefix(path.Clean("/"+v.Target), "/")
		if parent := path.Dir(target); parent != "." {
			if err := root.MkdirAll(parent, 0o755); err != nil {
				return fmt.Errorf("volume target %q: %w", v.Target, err)
			}
		}
		if now, err := root.Readlink(target); err == nil {
			if now == v.Source {
				continue
			}
			if err := root.Remove(target); err != nil {
				return fmt.Errorf("volume target %q: %w", v.Target, err)
			}
		}
		if err := root.Symlink(v.Source, target); err != nil {
			return fmt.Errorf("volume target %q: %w", v.Target, err)
		}
	}
	return nil
}

// makeWorkdir returns the working directory, and creates it if it is not
// there. It may be in a volume.
func makeWorkdir(dir string, spec bunfile.Spec) (string, error) {
	workdir := path.Clean("/" + spec.Image.Workdir)
	if workdir == "/" {
		return dir, nil
	}
	base, rest := dir, strings.TrimPrefix(workdir, "/")
	readOnly := false
	for _, v := range spec.Volumes {
		if target := path.Clean("/" + v.Target); within(workdir, target) {
			base, rest = v.Source, strings.TrimPrefix(strings.TrimPrefix(workdir, target), "/")
			readOnly = v.Mode == bunfile.ReadOnly
		}
	}
	if rest != "" {
		root, err := os.OpenRoot(base)
		if err != nil {
			return "", fmt.Errorf("workdir %q: %w", spec.Image.Workdir, err)
		}
		defer root.Close()
		if !readOnly {
			if err := root.MkdirAll(rest, 0o755); err != nil {
				return "", fmt.Errorf("workdir %q: %w", spec.Image.Workdir, err)
			}
		}
		if info, err := root.Stat(rest); err != nil || !info.IsDir() {
			return "", fmt.Errorf("workdir %q is not a directory in %s", spec.Image.Workdir, base)
		}
	}
	return filepath.Join(dir, filepath.FromSlash(workdir)), nil
}
