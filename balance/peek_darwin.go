package balance

import "golang.org/x/sys/unix"

// recvPeek is recvfrom(2) of what waits, which stays there. It waits for nothing.
func recvPeek(fd uintptr, buf []byte) error {
	_, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err
}
