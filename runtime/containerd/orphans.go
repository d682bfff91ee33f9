//go:build linux

package containerd

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// orphanAge is how old the pipes of a command are at least before anybody who has not
// locked them counts as dead.
const orphanAge = time.Second

// lockStreams locks the directory of a command's pipes as long as this process lives, or
// until the file is closed; nil where it cannot.
func lockStreams(dir string) *os.File {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil
	}
	return f
}

// openOrphans opens the pipes of commands whose clients were killed, in directories
// below dir, until closed is called. A shim that is to start such a command waits for
// somebody to open them, for up to half a minute, and what else it is asked waits for
// that (containerd 1.6 and 2.4). What is open for a moment is enough for it to go on.
func openOrphans(dir string) (closed func()) {
	var open []*os.File
	entries, _ := os.ReadDir(dir) // without it there are none
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || time.Since(info.ModTime()) < orphanAge {
			continue
		}
		lock := lockStreams(filepath.Join(dir, e.Name()))
		if lock == nil {
			continue
		}
		open = append(open, lock)
		pipes, _ := lock.ReadDir(-1)
		for _, p := range pipes {
			if p.Type() != os.ModeNamedPipe {
				continue
			}
			if f, err := os.OpenFile(filepath.Join(lock.Name(), p.Name()), os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0); err == nil {
				open = append(open, f)
			}
		}
	}
	return func() {
		for _, f := range open {
			_ = f.Close()
		}
	}
}
