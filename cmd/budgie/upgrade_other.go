//go:build !linux

package main

import "os"

// upgradeSignals are those that ask a process to upgrade itself.
func upgradeSignals() []os.Signal { return nil }
