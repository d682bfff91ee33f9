package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// exitStatus returns how the process, which has ended and need not be a child of ours,
// ended. While its parent has not waited for it /proc tells, afterwards the handle, from
// Linux 6.15 on.
func (h *handle) exitStatus() (status syscall.WaitStatus, ok bool) {
	if status, ok = zombieStatus(h.identity); ok {
		return status, true
	}
	conn, err := h.f.SyscallConn()
	if err != nil {
		return 0, false
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	var infoErr error
	err = conn.Control(func(fd uintptr) { infoErr = unix.IoctlPidfdInfo(int(fd), &info) })
	if err != nil || infoErr != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, false
	}
	return syscall.WaitStatus(info.Exit_code), true
}

// zombieStatus returns how a process ended that was not waited for so far.
func zombieStatus(i identity) (status syscall.WaitStatus, ok bool) {
	dir := "/proc/" + strconv.Itoa(i.PID)
	// Who may not look at a process sees the exit code 0: proc_pid_stat(5). This one
	// cannot be read then.
	if _, err := os.ReadFile(dir + "/io"); err != nil {
		return 0, false
	}
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const state, exitCode = 0, 49 // counted from the third field
	if len(fields) <= exitCode || fields[state] != "Z" {
		return 0, false
	}
	code, err := strconv.ParseUint(fields[exitCode], 10, 32)
	if err != nil {
		return 0, false
	}
	p, err := identify(i.PID) // it was the one that is meant if it still is
	return syscall.WaitStatus(code), err == nil && p.identity == i
}
