package watch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// watchesError makes an error of ENOSPC from inotify_add_watch: all watches
// that are allowed are in use, and missing more are needed.
func watchesError(err error, missing int) error {
	setting, value := lower("fs.inotify.max_user_watches", "user.max_inotify_watches")
	return &LimitError{Setting: setting, Value: value, Needed: value + missing, Err: err}
}

// instanceError makes an error of one from inotify_init1. EMFILE stands for the
// user's limit, and for that of the process.
func instanceError(err error) error {
	if !errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("begin to watch with inotify: %w", err)
	}
	fd, another := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if errors.Is(another, unix.EMFILE) {
		return fmt.Errorf("begin to watch with inotify: the process has too many open files (ulimit -n): %w", err)
	}
	if another == nil {
		_ = unix.Close(fd)
	}
	setting, value := lower("fs.inotify.max_user_instances", "user.max_inotify_instances")
	return &LimitError{Setting: setting, Value: value, Needed: value + 1, Err: err}
}

// lower returns the one of two settings that is lower, the first if they are
// equal: in a user namespace its own limit counts beside that of the machine.
func lower(first, second string) (string, int) {
	a, errA := sysctl(first)
	b, errB := sysctl(second)
	if errB == nil && (errA != nil || b < a) {
		return second, b
	}
	return first, a
}

// sysctl reads a setting of the kernel.
func sysctl(name string) (int, error) {
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
