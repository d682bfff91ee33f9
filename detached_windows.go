package budgie

import "syscall"

// ownSession keeps the signals of the starting console away from a
// supervisor.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
