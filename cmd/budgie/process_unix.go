//go:build unix

package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// ownProcess makes the process independent of the one that started it: what it
// starts itself, as a supervisor that lives on, does not hold open files that it
// only inherited (a lock of flock(1), say), and a reader that goes away is an
// error of the write instead of the end.
func ownProcess() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// hangup is the signal of a closed terminal. nohup(1) ignores it, and so it
// stays.
func hangup() []os.Signal {
	if signal.Ignored(syscall.SIGHUP) {
		return nil
	}
	return []os.Signal{syscall.SIGHUP}
}

// ownGroup keeps the terminal's signals away from a process.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
