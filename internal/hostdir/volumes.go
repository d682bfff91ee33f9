package hostdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/budgiehq/budgie/bunfile"
)

// CreateSources makes the sources of writable volumes that are not there, and
// checks the others. The function it returns takes back what was made.
func CreateSources(volumes []bunfile.Volume) (_ func(), err error) {
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
		if err := CheckSource(v); err != nil {
			return nil, err
		}
	}
	return undo, nil
}

// CheckSource says what is wrong with a volume's source.
func CheckSource(v bunfile.Volume) error {
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
