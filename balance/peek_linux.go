package balance

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// recvPeek is recvfrom(2) of what waits, which stays there. It waits for nothing, and
// so needs not tell Go's scheduler of itself.
func recvPeek(fd uintptr, buf []byte) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)),
		unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
