//go:build unix

package file

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/budgiehq/budgie/internal/ownership"
)

// checkPrivate refuses a data directory in which others can write: they could
// have this user's supervisor run commands.
func checkPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return nil // making something in it says what is wrong
	}
	me := os.Geteuid()
	if owner := int(sys.Uid); owner != me && me != 0 {
		return &notPrivateError{
			what: fmt.Sprintf("it belongs to %s, who could have commands run in your name", ownership.UserName(owner)),
			todo: fmt.Sprintf("run as %s, or set BUDGIE_DATA_DIR to a directory of your own", ownership.UserName(owner)),
		}
	}
	mode := info.Mode()
	if mode.Perm()&0o022 == 0 {
		return nil
	}
	if mode.Perm()&0o002 == 0 && mode&fs.ModeSticky == 0 && isEmpty(dir) {
		// Some umasks make every directory like this, and nobody relies on it
		// as long as nothing is there.
		return os.Chmod(dir, mode.Perm()&^0o022)
	}
	return &notPrivateError{
		what: fmt.Sprintf("others may write to it (mode %04o), and could have commands run in your name", mode.Perm()),
		todo: "chmod 0700 it, or choose another one with BUDGIE_DATA_DIR",
	}
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}
