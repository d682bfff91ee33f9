//go:build linux || darwin

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
)

// createSources makes the sources of writable volumes that are not there, and
// checks the others. The function it returns takes back what was made.
func createSources(volumes []bunfile.Volume) (_ func(), err error) {
	var made []string
	undo := func() {
		for _, dir := range slices.Backward(made) {
			_ = os.Remove(dir) // stays if somebody has put something in
		}
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	for _, v := range volumes {
		if !filepath.IsAbs(v.Source) {
			return nil, fmt.Errorf("volume source %q is not an absolute path", v.Source)
		}
		if _, err := os.Lstat(v.Source); errors.Is(err, fs.ErrNotExist) && v.Mode != bunfile.ReadOnly {
			var missing []string
			for dir := filepath.Clean(v.Source); ; dir = filepath.Dir(dir) {
				if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
					break
				}
				missing = append(missing, dir)
			}
			for _, dir := range slices.Backward(missing) {
				if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
					return nil, fmt.Errorf("create volume source: %w", err)
				}
				made = append(made, dir)
			}
		}
		if err := checkSource(v); err != nil {
			return nil, err
		}
	}
	return undo, nil
}

// checkSource says what is wrong with a volume's source.
func checkSource(v bunfile.Volume) error {
	info, err := os.Stat(v.Source)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(v.Source); lerr == nil {
			return fmt.Errorf("volume source %q is a link to something that does not exist", v.Source)
		}
		if v.Mode == bunfile.ReadOnly {
			return fmt.Errorf("volume source %q does not exist, and a read-only volume is not created: create it first", v.Source)
		}
	}
	if err != nil {
		return fmt.Errorf("volume source %q: %w", v.Source, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("volume source %q is not a directory; only directories can be volumes", v.Source)
	}
	d, err := os.Open(v.Source)
	if err != nil {
		return fmt.Errorf("volume source %q cannot be read: %w", v.Source, err)
	}
	return d.Close()
}

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
