package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrFile is what the attributes of are read and written: an open file, or a
// name in an open directory, which is never followed.
//
// The kernel has no such calls relative to a directory, but for the newest. The
// link that /proc has for the open directory stands for it: whatever is renamed
// meanwhile, the name is one in that directory.
type xattrFile struct {
	fd   int
	path string // "" for the open file itself
}

func xattrsAt(dir *os.File, name string) xattrFile {
	f := xattrFile{fd: int(dir.Fd())}
	if name != "" {
		f.path = fmt.Sprintf("/proc/self/fd/%d/%s", f.fd, name)
	}
	return f
}

func (f xattrFile) list(buf []byte) (int, error) {
	if f.path == "" {
		return unix.Flistxattr(f.fd, buf)
	}
	return unix.Llistxattr(f.path, buf)
}

func (f xattrFile) get(name string, buf []byte) (int, error) {
	if f.path == "" {
		return unix.Fgetxattr(f.fd, name, buf)
	}
	return unix.Lgetxattr(f.path, name, buf)
}

// maxXattrRead is the most that Linux has of names of a file, and of a value.
const maxXattrRead = 64 << 10

// readAll calls read with a small buffer, which does for nearly all files, and
// then with one that does for all.
func readAll(read func(buf []byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := read(buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, maxXattrRead)
		n, err = read(buf)
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// readXattrs returns the attributes that k keeps of a directory or of a name in
// it.
func readXattrs(dir *os.File, name string, k keeps) (map[string]string, error) {
	f := xattrsAt(dir, name)
	names, err := readAll(f.list)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return nil, nil
	case errors.Is(err, fs.ErrNotExist) && name != "":
		if _, proc := os.Lstat("/proc/self/fd"); proc != nil {
			return nil, fmt.Errorf("cannot be read without /proc, mount it: %w", proc)
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	var attrs map[string]string
	for name := range bytes.SplitSeq(names, []byte{0}) {
		attr := string(name)
		if kind := xattrKind(attr); kind == 0 || kind&^k != 0 {
			continue
		}
		value, err := readAll(func(buf []byte) (int, error) { return f.get(attr, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // it was removed just now
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", attr, err)
		}
		if attrs == nil {
			attrs = make(map[string]string)
		}
		attrs[attr] = string(value)
	}
	return attrs, nil
}

// writeXattrs gives an open file the attributes, and takes all others from it
// that k keeps.
func writeXattrs(f *os.File, encoded string, k keeps) error {
	have, err := readXattrs(f, "", k)
	if err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	fd := int(f.Fd())
	want := decodeXattrs(encoded)
	for name := range have {
		if _, ok := want[name]; ok {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return &fs.PathError{Op: "removing extended attribute " + name, Path: f.Name(), Err: err}
		}
	}
	for name, value := range want {
		if old, ok := have[name]; ok && old == value {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
			return &fs.PathError{Op: fmt.Sprintf("setting extended attribute %s of %d bytes", name, len(value)), Path: f.Name(), Err: err}
		}
	}
	return nil
}

// probes are attributes that are set on an empty file to see which kinds can be
// kept.
var probes = map[string]string{
	"user.budgie":    "1",
	"trusted.budgie": "1",
	// Version 2, and for user 1 an entry beside those that the mode has.
	aclAccess: "\x02\x00\x00\x00" +
		"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x01\x00\x00\x00" +
		"\x04\x00\x00\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff",
	// Version 2, with none of them.
	capability: "\x00\x00\x00\x02" + strings.Repeat("\x00", 16),
}

// probeXattrs says which attributes f can have.
func probeXattrs(f *os.File) (k keeps, err error) {
	fd := int(f.Fd())
	for name, value := range probes {
		switch err := unix.Fsetxattr(fd, name, []byte(value), 0); {
		case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO):
			return 0, err
		case err == nil:
			k |= xattrKind(name)
		}
	}
	return k, nil
}
