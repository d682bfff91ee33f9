package balance

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// holdOff lets the kernel begin no further TCP handshake on a listening socket.
// Those under way end, so that its backlog, taken to its end, is empty. The
// first packet of a newcomer is dropped: it sends another one a second later,
// when the socket is closed and says so, or another process serves the port.
// (Closing alone loses the race against whoever comes after the last accept(2),
// and shutdown(2) of a listening socket resets its backlog as close(2) does.)
//
// The function returned undoes it, and is called when ln is closed. Other
// processes may have the same socket, and serve on. In between the socket is
// kept open, so that nothing but one close(2) comes after the undoing: in that
// microsecond a newcomer can still be accepted by the kernel, and reset. It is
// nil where newcomers cannot be held off, as on a socket of Multipath TCP, which
// takes no filter: net.Listen makes these unless the kernel lacks it, and
// net.ListenConfig.SetMultipathTCP(false) does not.
func holdOff(ln net.Listener) (letGo func()) {
	sc, ok := ln.(syscall.Conn)
	if _, tcp := ln.Addr().(*net.TCPAddr); !ok || !tcp {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	if err := rc.Control(func(fd uintptr) {
		own, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return
		}
		if dropSYN(own) != nil {
			unix.Close(own)
			return
		}
		letGo = func() { undropAndClose(own) }
	}); err != nil {
		return nil
	}
	return letGo
}

// dropSYN lets a socket receive no packet that has SYN and not ACK. Connections
// inherit the filter of the socket that accepted them; such packets are none of
// theirs.
func dropSYN(fd int) error {
	const (
		flags = 13 // the offset of the flags in a TCP header: RFC 9293 section 3.1
		syn   = 0x02
		ack   = 0x10
		all   = 0xffffffff
	)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: syn | ack},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: syn, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K},
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
}

// undropAndClose undoes dropSYN and closes the socket, with nothing in between:
// after an ordinary system call Go may let other goroutines run first.
func undropAndClose(fd int) {
	var none int32 // what the kernel demands and does not look at
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER,
		uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none), 0)
	unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}
