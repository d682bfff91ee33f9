package replica

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData returns where data begins, at off or behind it, and where it ends; at
// size if there is none.
func nextData(f *os.File, off, size int64) (begin, end int64, err error) {
	begin, err = f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL):
		return off, size, nil // this file system does not say
	case err != nil:
		return 0, 0, err
	case begin >= size:
		return size, size, nil
	}
	end, err = f.Seek(begin, unix.SEEK_HOLE)
	return begin, min(end, size), err
}

// beginWriting has the system write to the disk what it holds of a file, and does
// not wait for that. Where it cannot, a later sync has more to do.
func beginWriting(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
