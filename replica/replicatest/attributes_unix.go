//go:build unix

package replicatest

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// identify returns the numeric owner and group of what info is of, and which
// file of the system it is, if that has more than one name.
func identify(info fs.FileInfo) (owner, file string) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", ""
	}
	if st.Nlink > 1 {
		file = fmt.Sprint(st.Dev, st.Ino)
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid), file
}

// setLinkTime says when a symbolic link was modified.
func setLinkTime(path string, at time.Time) error {
	ts := unix.NsecToTimespec(at.UnixNano())
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

// allocated returns how many bytes a file occupies.
func allocated(t *testing.T, path string) (int64, bool) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512, true
}
