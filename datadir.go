package budgie

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/budgiehq/budgie/bunfile"
)

// checkVolumes refuses volumes that have the client's data directory in them: replicas
// would get the key and the token that are in it, and the container may read them.
func (c *Client) checkVolumes(spec bunfile.Spec) error {
	for _, v := range spec.Volumes {
		inside, err := c.holdsDataDir(v.Source)
		if err != nil {
			return fmt.Errorf("volume %s: its source %s cannot be used: %w; correct volumes[].source", v.Target, v.Source, err)
		}
		if inside {
			return fmt.Errorf("volume %s: %w: %s has Budgie's data directory %s in it, with this node's private key and the flock's token; use another directory, or move the data directory (BUDGIE_DATA_DIR)",
				v.Target, ErrNotAllowed, v.Source, c.cfg.dataDir)
		}
	}
	return nil
}

// holdsDataDir reports whether a directory is the client's data directory, or has that
// in it, whatever links lead to either, and also where the latter is not made yet.
func (c *Client) holdsDataDir(dir string) (bool, error) {
	real, err := realPath(dir)
	if err != nil {
		return false, err
	}
	data, err := realPath(c.cfg.dataDir)
	if err != nil {
		return false, err
	}
	rel, err := filepath.Rel(real, data)
	return err == nil && filepath.IsLocal(rel), nil
}

// realPath resolves the links in a path, of which the end need not exist.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		above := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || above == path {
			return "", err
		}
		path, rest = above, filepath.Join(filepath.Base(path), rest)
	}
}
