//go:build unix

package ownership

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

const noFollow = syscall.O_NOFOLLOW

// ownerOf returns who owns a directory, and whether that is another user whose
// files this process can make: only root can.
func ownerOf(dir string) (who owner, foreign bool, err error) {
	if os.Geteuid() != 0 {
		return owner{}, false, nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return owner{}, false, err
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok || sys.Uid == 0 {
		return owner{}, false, nil
	}
	return owner{uid: int(sys.Uid), gid: int(sys.Gid)}, true, nil
}

// UserName names a user for people: "user alice", or "user 1000" for one
// without a name.
func UserName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return "user " + u.Username
	}
	return "user " + id
}
