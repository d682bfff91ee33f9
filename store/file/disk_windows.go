package file

import (
	"errors"
	"time"

	"golang.org/x/sys/windows"
)

// holdOpen: a file that is held open cannot be replaced on Windows.
const holdOpen = false

// SyncDir implements disk. NTFS journals names by itself, and Windows has no
// call that would wait for it.
func (osDisk) SyncDir(string) error { return nil }

// whileBusy tries f again for up to a second while it fails because another
// process, which may be a virus scanner, has the file open at the moment.
func whileBusy(f func() error) error {
	const tries, pause = 100, 10 * time.Millisecond
	var err error
	for range tries {
		err = f()
		if !errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return err
		}
		time.Sleep(pause)
	}
	return err
}
