//go:build linux || darwin

package balance

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// backlogged reports whether a connection waits to be accepted. known is false
// where the listener does not let one look.
func backlogged(ln net.Listener) (waiting, known bool) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return false, false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false, false
	}
	err = rc.Control(func(fd uintptr) {
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			waiting, known = n > 0, err == nil
			return
		}
	})
	return waiting, known && err == nil
}
