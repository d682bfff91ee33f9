//go:build unix

package budgie

import "syscall"

// ownSession keeps the signals of the starting terminal away from a
// supervisor.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
