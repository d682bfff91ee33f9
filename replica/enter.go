package replica

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"time"
)

// enter opens a directory and returns the names in it, with a function that
// closes it and takes back the permissions that this needed.
func (s *scanner) enter(e entry) (dir *os.File, names []string, leave func(), err error) {
	lock := func() {}
	dir, names, err = s.names(e)
	// Only where it has to be: whoever looks at the copy sees the mode meanwhile.
	if s.unlock && e.mode&0o500 != 0o500 && s.forbids(e, names, err) {
		if s.root.Chmod(e.osPath(), fileMode(e.mode|0o700)) == nil {
			lock = func() { _ = s.root.Chmod(e.osPath(), fileMode(e.mode)) }
		}
		if err != nil {
			dir, names, err = s.names(e)
		}
	}
	if err != nil {
		lock()
		return nil, nil, nil, err
	}
	return dir, names, func() {
		_ = dir.Close()
		lock()
	}, nil
}

// names opens a directory and returns the names in it.
func (s *scanner) names(e entry) (*os.File, []string, error) {
	dir, err := openDir(s.root, e.path)
	if err != nil {
		return nil, nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return dir, names, nil
}

// forbids reports whether the mode of a directory keeps its owner from what is in it;
// err is that of reading the names.
func (s *scanner) forbids(e entry, names []string, err error) bool {
	if err == nil && len(names) > 0 {
		_, err = s.root.Lstat(path.Join(e.path, names[0]))
	}
	return errors.Is(err, fs.ErrPermission)
}

// open opens a file for reading, for its owner whatever its mode where the
// scanner may unlock it.
func (s *scanner) open(path string, info fs.FileInfo) (*os.File, error) {
	f, err := openRegular(s.root, path, info)
	if !s.unlock || !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	mode := modeOf(info.Mode())
	if err := s.root.Chmod(path, fileMode(mode|0o400)); err != nil {
		return nil, err
	}
	s.unlocked = true
	f, err = openRegular(s.root, path, info)
	if locked := s.root.Chmod(path, fileMode(mode)); err == nil {
		err = locked
	}
	return f, err
}

// relock has what is going to be read of a file that was unlocked for that, and is locked
// again, go with the file as it is now, which has another time since. Where it was left
// alone for long before, its time of modification proves that nobody else did anything.
func (s *scanner) relock(path string, h *hashed) {
	if !s.unlocked {
		return
	}
	info, err := s.root.Lstat(path)
	if err != nil || !h.fp.provenAt(h.at) {
		return
	}
	now, ok := fingerprintOf(info)
	was := h.fp
	if was.ctime = now.ctime; ok && was == now {
		h.fp, h.at = now, time.Unix(0, max(now.mtime, now.ctime)).Add(quiet+1)
	}
}
