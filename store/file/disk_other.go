//go:build !windows

package file

import (
	"errors"
	"os"
)

// holdOpen: a file that is held open keeps its inode from being used again, so
// that the inode tells whether the file was replaced.
const holdOpen = true

// SyncDir implements disk.
func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func whileBusy(f func() error) error { return f() }
