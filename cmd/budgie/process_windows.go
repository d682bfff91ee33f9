package main

import (
	"os"
	"syscall"
)

// ownProcess does nothing: handles are not inherited unless that is asked for.
func ownProcess() {}

// hangup is nothing: consoles that close send SIGTERM.
func hangup() []os.Signal { return nil }

// ownGroup is not needed: nothing is upgraded in place.
func ownGroup() *syscall.SysProcAttr { return nil }
