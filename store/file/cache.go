package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/budgiehq/budgie/store"
)

// cache holds the state file as it was last read or written. All methods may
// be called concurrently.
type cache struct {
	path string

	mu     sync.Mutex
	closed bool
	snap   *snapshot // nil before the first load
	// file is the file that snap came from, nil where there was none. It stays
	// open where holdOpen, and with it its space on the disk until it is
	// replaced; info describes it. Elsewhere data is its content.
	file io.Closer
	info fs.FileInfo
	data []byte
	// present is set once a state file was read or written.
	present bool
	// floor is the highest revision seen. It keeps revisions from being given
	// out twice in this process's sight after somebody put an older file in
	// place.
	floor uint64
}

// load returns the state as it is in the file now, an empty one if there is no
// file. The state is not to be changed.
func (c *cache) load() (*snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, store.ErrClosed
	}
	info, err := os.Lstat(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.loadNone()
	case err != nil:
		return nil, unreadable(c.path, err)
	case !info.Mode().IsRegular():
		return nil, unreadable(c.path, fmt.Errorf("%w: it is not a regular file (%s)", store.ErrCorrupt, info.Mode().Type()))
	case c.current(info):
		return c.snap, nil
	}
	return c.read()
}

// current reports whether snap is the content of the file that info describes.
// The inode decides, since writers replace the file; size and time are for
// those who edit it in place.
func (c *cache) current(info fs.FileInfo) bool {
	return c.file != nil && os.SameFile(info, c.info) &&
		info.Size() == c.info.Size() && info.ModTime().Equal(c.info.ModTime())
}

// loadNone returns an empty state where there was none before. One that this
// process has seen was moved or deleted: for a moment, as by an editor or while
// it is restored, or by mistake. Its containers are not to be ended for that.
// If the whole directory is gone, the error is fs.ErrNotExist.
func (c *cache) loadNone() (*snapshot, error) {
	dir := filepath.Dir(c.path)
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("the data directory %s is gone: %w", dir, err)
	}
	if c.present {
		return nil, fmt.Errorf("%w: %s is gone; put it back: until then nothing is written, and containers that run go on running; "+
			"to start anew, end the programs that use it and run them again", store.ErrCorrupt, c.path)
	}
	c.replace(emptySnapshot(), nil, nil, nil)
	return c.snap, nil
}

// read reads the file anew.
func (c *cache) read() (*snapshot, error) {
	var f *os.File
	if err := whileBusy(func() (err error) { f, err = os.Open(c.path); return err }); err != nil {
		return nil, unreadable(c.path, err)
	}
	info, err := f.Stat()
	var data []byte
	if err == nil {
		data, err = io.ReadAll(f)
	}
	if err != nil {
		return nil, unreadable(c.path, errors.Join(err, f.Close()))
	}
	snap := c.snap
	if holdOpen || snap == nil || !bytes.Equal(data, c.data) {
		if snap, err = decode(data); err != nil {
			return nil, unreadable(c.path, errors.Join(err, f.Close()))
		}
	}
	if holdOpen {
		c.present = true
		c.replace(snap, f, info, nil)
		return snap, nil
	}
	c.present = true
	c.replace(snap, nil, nil, data)
	return snap, f.Close()
}

// wrote makes snap, which was written to the file that info describes, the
// content of the cache.
func (c *cache) wrote(snap *snapshot, info fs.FileInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.present = true
	c.floor = max(c.floor, snap.table.Revision())
	if !holdOpen || c.closed {
		return // the next load reads
	}
	// Opened anew for reading: a file held open for writing would keep its
	// file system from being made read-only.
	f, err := os.Open(c.path)
	if err != nil {
		return
	}
	if now, err := f.Stat(); err == nil && os.SameFile(now, info) {
		c.replace(snap, f, now, nil)
		return
	}
	_ = f.Close() // somebody was faster; nothing was written to it
}

func (c *cache) replace(snap *snapshot, f io.Closer, info fs.FileInfo, data []byte) {
	if c.file != nil {
		_ = c.file.Close() // it was only read
	}
	c.snap, c.file, c.info, c.data = snap, f, info, data
	c.floor = max(c.floor, snap.table.Revision())
}

// seen returns the highest revision that this process has seen.
func (c *cache) seen() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.floor
}

// close lets go of the file and ends all loads.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.replace(emptySnapshot(), nil, nil, nil)
}

// unreadable says what to do about a state file that cannot be read.
func unreadable(path string, err error) error {
	const (
		kept = "it is left as it is, and containers that run go on running"
		anew = "end the programs that use it and move it away to start anew"
	)
	switch {
	case errors.Is(err, store.ErrVersion):
		return fmt.Errorf("read %s: %w; %s; use the newer version of Budgie that wrote it, or %s", path, err, kept, anew)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("read %s: %w; %s; run as the user who owns it, or set BUDGIE_DATA_DIR to another directory", path, err, kept)
	}
	if !errors.Is(err, store.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return fmt.Errorf("read %s: %w; %s; restore it from a copy, or %s: the runtime still lists what runs", path, err, kept, anew)
}
