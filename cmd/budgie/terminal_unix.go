//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// onResize makes c receive a signal when the terminal's size changes.
func onResize(c chan<- os.Signal) { signal.Notify(c, syscall.SIGWINCH) }

// onQuit calls first before SIGQUIT does what it does: end the program, with
// what its goroutines are at. stop takes that back.
func onQuit(first func()) (stop func()) {
	quit := make(chan os.Signal, 1)
	over := make(chan struct{})
	signal.Notify(quit, syscall.SIGQUIT)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-quit:
			first()
			signal.Reset(syscall.SIGQUIT)
			_ = syscall.Kill(os.Getpid(), syscall.SIGQUIT)
		case <-over:
		}
	}()
	return func() {
		signal.Stop(quit)
		close(over)
		<-done
	}
}
