//go:build linux || darwin

package logfile

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const errQuota = syscall.EDQUOT

// diskSpace returns how many bytes a plain user can still write on the file
// system of a directory, and how many there are in all.
func diskSpace(dir string) (free, total uint64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Bsize <= 0 {
		return 0, 0, false
	}
	size := uint64(st.Bsize)
	return st.Bavail * size, st.Blocks * size, true
}
