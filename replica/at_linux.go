package replica

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What follows looks at names in a directory that is open. [os.Root] would go down
// to it again for each of them, name by name. Names have no slashes, and no link is
// followed, so nothing leads elsewhere.

// statInfo is what an fs.FileInfo of package os is.
type statInfo struct {
	name string
	stat syscall.Stat_t
}

func (s *statInfo) Name() string       { return s.name }
func (s *statInfo) Size() int64        { return s.stat.Size }
func (s *statInfo) ModTime() time.Time { return time.Unix(s.stat.Mtim.Unix()) }
func (s *statInfo) IsDir() bool        { return s.Mode().IsDir() }
func (s *statInfo) Sys() any           { return &s.stat }

// Mode implements fs.FileInfo.
func (s *statInfo) Mode() fs.FileMode {
	m := fileMode(uint16(s.stat.Mode & modeMask))
	switch s.stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFREG:
	default:
		m |= fs.ModeIrregular
	}
	return m
}

// nameInfo has room for what a name leads to.
type nameInfo struct {
	statInfo
	got unix.Stat_t
}

// of describes a name in an open directory, until it is called again.
func (i *nameInfo) of(dir *os.File, name string) (fs.FileInfo, error) {
	err := again(func() error { return unix.Fstatat(int(dir.Fd()), name, &i.got, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	i.statInfo = statInfoOf(name, &i.got)
	return &i.statInfo, nil
}

func statInfoOf(name string, st *unix.Stat_t) statInfo {
	return statInfo{name, syscall.Stat_t{
		Dev: st.Dev, Ino: st.Ino, Nlink: st.Nlink, Mode: st.Mode, Uid: st.Uid, Gid: st.Gid,
		Size: st.Size, Blocks: st.Blocks, Mtim: syscall.Timespec(st.Mtim), Ctim: syscall.Timespec(st.Ctim),
	}}
}

// readName reads a file that fits into buf with a byte to spare, if it still is what
// info says: else it may be something else, or larger.
func readName(dir *os.File, name string, info fs.FileInfo, buf []byte) (content []byte, err error) {
	fd := -1
	err = again(func() (err error) {
		fd, err = unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if now := statInfoOf(name, &st); !sameFile(&now, info) || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size >= int64(len(buf)) {
		return nil, errRaced
	}
	for n := 0; n < len(buf); {
		got := 0
		err := again(func() (err error) {
			got, err = unix.Read(fd, buf[n:])
			return err
		})
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		}
		// A file that is read to where it ended when it was opened has ended, if
		// the kernel had no more for the room that there was.
		if n += got; got == 0 || int64(n) == st.Size {
			return buf[:n], nil
		}
	}
	return nil, errRaced
}

// again repeats what a signal interrupted.
func again(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
