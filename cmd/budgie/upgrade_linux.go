package main

import (
	"os"
	"syscall"
)

// upgradeSignals are those that ask a process to upgrade itself.
func upgradeSignals() []os.Signal { return []os.Signal{syscall.SIGUSR2} }
