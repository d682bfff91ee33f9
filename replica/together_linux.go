package replica

import (
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// wholeSync are the file systems by whose syncfs(2) files are as durable as by their
// fsync. Others, such as those of FUSE, may not pass it on.
var wholeSync = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC}

// syncfsTells says whether syncfs(2) tells of what could not be written, as it does from
// Linux 5.8 on.
var syncfsTells = sync.OnceValue(func() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	return atLeast(unix.ByteSliceToString(name.Release[:]), 5, 8)
})

// atLeast compares a release of Linux, such as 6.1.0-38-amd64.
func atLeast(release string, major, minor int) bool {
	var a, b int
	n, _ := fmt.Sscanf(release, "%d.%d", &a, &b)
	return n == 2 && (a > major || a == major && b >= minor)
}

// syncTogether makes files durable by one call for their file system, instead of many
// that each wait for its journal. It returns false where it cannot vouch for them; then
// fsync of each decides, which knows of the file's own failures. The first was opened
// before the others: what goes wrong since then shows at it.
func syncTogether(files []*incoming) bool {
	var open []int
	for _, c := range files {
		if c.file != nil {
			open = append(open, int(c.file.Fd()))
		}
	}
	if len(open) == 0 {
		return true
	}
	if !syncfsTells() {
		return false
	}
	var system unix.Statfs_t
	if unix.Fstatfs(open[0], &system) != nil || !slices.Contains(wholeSync, int64(system.Type)) {
		return false
	}
	var first, one unix.Stat_t
	for i, fd := range open {
		if unix.Fstat(fd, &one) != nil {
			return false
		}
		if i == 0 {
			first = one
		}
		if one.Dev != first.Dev {
			return false
		}
	}
	return unix.Syncfs(open[0]) == nil
}
