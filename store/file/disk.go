package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/budgiehq/budgie/internal/ownership"
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
	f, err := ownership.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
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

// writeFile replaces the file at path by what write writes and describes the
// new file. Any error but an *unsureError leaves the file at path as it was,
// and no temporary file.
func writeFile(d disk, path string, write func(io.Writer) error) (fs.FileInfo, error) {
	temp := path + tempSuffix
	info, err := writeTemp(d, temp, write)
	if err == nil {
		if err = d.Rename(temp, path); err != nil {
			err = errors.Join(err, d.Remove(temp))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write %s (the state before is intact): %w%s", path, err, advice(err))
	}
	if err := d.SyncDir(filepath.Dir(path)); err != nil {
		return info, &unsureError{fmt.Errorf("fsync %s: %w%s", filepath.Dir(path), err, advice(err))}
	}
	return info, nil
}

// writeTemp writes a new file so that its content survives a crash, or leaves
// none.
func writeTemp(d disk, path string, write func(io.Writer) error) (info fs.FileInfo, err error) {
	f, err := d.Create(path)
	if err != nil {
		return nil, err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		info, err = f.Stat()
	}
	if cerr := f.Close(); err == nil { // a close after a failure has nothing to add
		err = cerr
	}
	if err != nil {
		return nil, errors.Join(err, d.Remove(path))
	}
	return info, nil
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
