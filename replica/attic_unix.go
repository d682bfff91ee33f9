//go:build unix

package replica

import (
	"os"

	"golang.org/x/sys/unix"
)

// renameBetween moves a name from one open directory to another.
func renameBetween(from *os.File, name string, to *os.File) error {
	return unix.Renameat(int(from.Fd()), name, int(to.Fd()), name)
}

// linkBetween gives a file another name in another open directory. It does not
// follow links.
func linkBetween(from *os.File, name string, to *os.File) error {
	return unix.Linkat(int(from.Fd()), name, int(to.Fd()), name, 0)
}
