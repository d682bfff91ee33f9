//go:build unix

package runtimetest

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// onResize makes changes of the terminal's size arrive at c.
func onResize(c chan<- os.Signal) { signal.Notify(c, syscall.SIGWINCH) }

// kill sends this process a signal.
func kill(sig int) error { return syscall.Kill(os.Getpid(), syscall.Signal(sig)) }

// cpuTime returns the processor time that this process has used.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}
