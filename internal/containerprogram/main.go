//go:build unix

// Command containerprogram is the test program of runtimetest as a program for
// containers: built without cgo it needs nothing of its image. As the first
// process of a container it does what an init does, because the kernel shields
// that one from the signals that it does not handle.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/budgiehq/budgie/runtime/runtimetest"
)

func main() {
	if os.Getpid() != 1 {
		runtimetest.Program()
		fmt.Fprintln(os.Stderr, "containerprogram: not started as the test program")
		os.Exit(100)
	}
	code, err := supervise()
	if err != nil {
		fmt.Fprintln(os.Stderr, "containerprogram:", err)
	}
	os.Exit(code)
}

// supervise runs this program again, hands signals on to it, and returns its
// exit code as a shell tells it.
func supervise() (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGQUIT)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 100, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may just have ended
		}
	}()
	_ = cmd.Wait() // the state says all
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
