//go:build !linux && !darwin

package logfile

import "syscall"

const errQuota = syscall.ENOSPC

// diskSpace is not known here: a full disk shows when a write fails.
func diskSpace(string) (free, total uint64, ok bool) { return 0, 0, false }
