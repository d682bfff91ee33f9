// Package hostdir is what runtimes do with directories of the host: the files
// in which they keep their containers, and the sources of volumes.
package hostdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/budgiehq/budgie/internal/ownership"
)

// WriteJSON replaces a file as a whole, or not at all.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(data, '\n'))
}

// WriteFile replaces a file as a whole, or not at all, by one of mode 0600. It
// survives a crash of the machine after [Sync] of its directory.
func WriteFile(path string, data []byte) error {
	return whole(path, data, os.Rename)
}

// CreateFile makes a file as a whole, with mode 0600, or not at all, so that of
// several processes that make it at the same time one wins and nobody sees half
// a file. Where there is one already, the error is fs.ErrExist.
func CreateFile(path string, data []byte) error {
	return whole(path, data, os.Link)
}

// whole writes a temporary file and puts it at path.
func whole(path string, data []byte, put func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = ownership.Give(f, filepath.Dir(path))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return put(f.Name(), path)
}

// Sync makes what was renamed in a directory survive a crash of the machine.
// Windows journals names by itself and has no call for it.
func Sync(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// RemoveTree deletes a directory with all that is in it, also where the
// container took its own permissions away. It follows no links. Others may look
// meanwhile whether its lock is free, and make its file for that.
func RemoveTree(dir string) error {
	err := removeAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	root, rerr := os.OpenRoot(dir)
	if rerr != nil {
		return err
	}
	defer root.Close()
	openAll(root, ".")
	return removeAll(dir)
}

// mostLookers is how many others may make a file in a directory while it goes.
const mostLookers = 1000

// removeAll does what os.RemoveAll does, which gives up where a file is made in a
// directory that was just emptied.
func removeAll(dir string) (err error) {
	for range mostLookers {
		if err = os.RemoveAll(dir); !errors.Is(err, syscall.ENOTEMPTY) {
			break
		}
	}
	return err
}

// openAll lets the owner into all directories. Errors show when the deletion
// is tried again.
func openAll(root *os.Root, dir string) {
	if info, err := root.Lstat(dir); err != nil || !info.IsDir() {
		return
	}
	_ = root.Chmod(dir, 0o700)
	d, err := root.Open(dir)
	if err != nil {
		return
	}
	entries, _ := d.ReadDir(-1)
	d.Close()
	for _, e := range entries {
		if e.IsDir() {
			openAll(root, filepath.Join(dir, e.Name()))
		}
	}
}
