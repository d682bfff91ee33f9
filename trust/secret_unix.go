//go:build unix

package trust

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/budgiehq/budgie/internal/ownership"
)

// noFollow opens no link, and does not wait for the other end of a pipe.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// notPrivate says why a file in dir is not one that only this process's user
// can read and write, "" if it is.
func notPrivate(info fs.FileInfo, dir string) string {
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "its owner cannot be seen"
	}
	if owner := int(sys.Uid); owner != os.Geteuid() && !rootUses(owner, dir) {
		return fmt.Sprintf("it belongs to %s: move it away, or run as that user", ownership.UserName(owner))
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Sprintf("others may use it too (mode %04o): chmod 0600 it, and if somebody may have read it, replace it: "+
			"a token with \"budgie token rotate\", a node.key by removing it", perm)
	}
	return ""
}

// rootUses reports whether this process is root's, and owner whose directory
// it is.
func rootUses(owner int, dir string) bool {
	if os.Geteuid() != 0 {
		return false
	}
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == owner
}
