//go:build unix

package replica

import (
	"os"

	"golang.org/x/sys/unix"
)

// setLinkTime sets when the symbolic link of that name in a directory was
// modified. os.Root has no call that does not follow it.
func setLinkTime(dir *os.File, name string, mtime int64) error {
	at := unix.NsecToTimespec(mtime)
	times := []unix.Timespec{at, at} // not every system can leave the time of access alone
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(int(dir.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW))
}
