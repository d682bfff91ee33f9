package replica

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// stat describes a path, in the directory above where that is open, until it is called
// again.
func (s *scanner) stat(above *os.File, name string) (fs.FileInfo, error) {
	if above != nil {
		if info, err := s.info.of(above, path.Base(name)); !errors.Is(err, errors.ErrUnsupported) {
			return info, err
		}
	}
	return s.root.Lstat(osPath(name))
}

// small computes the digest of a small file in an open directory, with few calls
// of the system. It is false where that fails, and another way may do.
func (s *scanner) small(above *os.File, name string, info fs.FileInfo, h *hashed) bool {
	if above == nil || info.Size() >= deltaFrom {
		return false
	}
	content, err := readName(above, path.Base(name), info, s.buf.bytes())
	if err != nil {
		return false
	}
	h.size, h.digest = int64(len(content)), sha256.Sum256(content)
	s.count(0, h.size)
	return true
}

// openRegular opens the file that info describes. It never blocks on what took
// its place.
func openRegular(root tree, path string, info fs.FileInfo) (*os.File, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && !(now.Mode().IsRegular() && sameFile(now, info)) {
		err = fmt.Errorf("%s %w", path, errRaced)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sameFile reports whether two descriptions are of the same file.
func sameFile(a, b fs.FileInfo) bool {
	_, x := statOf(a)
	if _, y := statOf(b); x != (node{}) {
		return x.file == y.file
	}
	return os.SameFile(a, b)
}
