package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// disk is the steps of writing that can fail, each apart so that tests can
// make it fail.
type disk interface {
	// Create makes a new file with mode 0600.
	Create(path string) (diskFile, error)
	// Rename puts a file in the place of another.
	Rename(from, to string) error
	// SyncDir makes the names in a directory survive a crash.
	SyncDir(dir string) error
	// Remove deletes a file.
	Remove(path string) error
}

// diskFile is a file being written.
type diskFile interface {
	io.WriteCloser
	Sync() error
	Stat() (fs.FileInfo, error)
}

type osDisk struct{}

func (osDisk) Create(path string) (diskFile, error) {
	// A leftover of a crash is in the way; the caller holds the lock, so
	// nobody is writing it.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osDisk) Rename(from, to string) error {
	return whileBusy(func() error { return os.Rename(from, to) })
}

func (osDisk) Remove(path string) error { return os.Remove(path) }

// unsureError is the error of a write that is in sight, but may not survive a
// crash of the machine.
type unsureError struct{ err error }

func (e *unsureError) Error() string {
	return "written, but it may be lost if the machine crashes now: " + e.err.Error()
}

func (e *unsureError) Unwrap() error { return e.err }

// writeFile replaces the file at path by what write writes and returns the new
// file, open. Any error but an *unsureError leaves the file at path as it was,
// and no temporary file.
func writeFile(d disk, path string, write func(io.Writer) error) (diskFile, error) {
	temp := path + tempSuffix
	f, err := d.Create(temp)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w%s", temp, err, advice(err))
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil && !holdOpen {
		err = f.Close()
	}
	if err == nil {
		err = d.Rename(temp, path)
	}
	if err != nil {
		if holdOpen {
			err = errors.Join(err, f.Close())
		} else {
			_ = f.Close() // it may be closed already
		}
		if rerr := d.Remove(temp); rerr != nil {
			err = errors.Join(err, rerr)
		}
		return nil, fmt.Errorf("write %s (the state before is intact): %w%s", path, err, advice(err))
	}
	if err := d.SyncDir(filepath.Dir(path)); err != nil {
		return f, &unsureError{fmt.Errorf("fsync %s: %w%s", filepath.Dir(path), err, advice(err))}
	}
	return f, nil
}

// advice says what to do about an error of a write, where that is plain.
func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "; free some space there and try again"
	case errors.Is(err, syscall.EROFS):
		return "; mount the file system writable, or set BUDGIE_DATA_DIR to another directory"
	case errors.Is(err, fs.ErrPermission):
		return "; run as the user who owns the directory, or set BUDGIE_DATA_DIR to another one"
	}
	return ""
}
