package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one end of a conversation. One goroutine uses it.
type conn struct{ *net.UnixConn }

// other returns whose process the other end is.
func (c conn) other() (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return nil, fmt.Errorf("find out whose process the other one is: %w", err)
	}
	return cred, nil
}

// sameUser returns an error where the other end is a process of another user. A user
// of another namespace has no id here, and is another one.
func (c conn) sameUser() error {
	cred, err := c.other()
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: process %d is of the user %d, and this one of %d: only the same user can take over", ErrRefused, cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}

// say sends a message with sockets, which have to be names' as well.
func (c conn) say(m message, sockets []Socket) error {
	m.Version = Version
	for _, s := range sockets {
		m.Names = append(m.Names, s.Name)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("a message of %d bytes is too long", len(text))
	}
	return withFDs(sockets, nil, func(fds []int) error {
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		_, _, err := c.WriteMsgUnix(text, rights, nil)
		return err
	})
}

// hear receives a message with its sockets within a time. A message of another version
// is an error, and what came along is closed then.
func (c conn) hear(within time.Duration) (message, []Socket, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return message{}, nil, err
	}
	text, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(maxSockets*4))
	n, rn, flags, _, err := c.ReadMsgUnix(text, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return message{}, nil, err
	}
	fds, err := fdsOf(rights[:rn])
	m, sockets, readErr := read(text[:n], fds)
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.Join(err, errors.New("the message did not come whole"))
	}
	if err = errors.Join(err, readErr); err != nil {
		closeAll(sockets)
		return message{}, nil, err
	}
	return m, sockets, nil
}

// read understands a message, and takes the file descriptors that came along.
func read(text []byte, fds []int) (message, []Socket, error) {
	var m message
	err := json.Unmarshal(text, &m)
	if err == nil && m.Version != Version {
		err = fmt.Errorf("%w: the other process speaks version %d of the protocol, and this one %d: stop it and start the new one instead", ErrRefused, m.Version, Version)
	}
	if err == nil && len(m.Names) != len(fds) {
		err = fmt.Errorf("%d sockets came along for %d names", len(fds), len(m.Names))
	}
	var sockets []Socket
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "a socket of another process")
		if err == nil {
			var s Socket
			if s, err = socketOf(fd, f); err == nil {
				s.Name = m.Names[i]
				sockets = append(sockets, s)
			}
		}
		_ = f.Close() // the socket has a descriptor of its own
	}
	return m, sockets, err
}

// socketOf returns the socket of a descriptor, which f has.
func socketOf(fd int, f *os.File) (s Socket, err error) {
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case err != nil:
	case typ == unix.SOCK_STREAM:
		s.Listener, err = net.FileListener(f)
	default:
		s.PacketConn, err = net.FilePacketConn(f)
	}
	return s, err
}

func closeAll(sockets []Socket) {
	for _, s := range sockets {
		s.Close()
	}
}

// withFDs calls f with the file descriptors of sockets, which stay open meanwhile. They
// are not duplicated, as File does that: it may make them block.
func withFDs(sockets []Socket, fds []int, f func([]int) error) error {
	if len(sockets) == 0 {
		return f(fds)
	}
	rc, err := sockets[0].Conn.SyscallConn()
	if err != nil {
		return err
	}
	ctlErr := rc.Control(func(fd uintptr) { err = withFDs(sockets[1:], append(fds, int(fd)), f) })
	return errors.Join(ctlErr, err)
}

// fdsOf returns the file descriptors that came along with a message.
func fdsOf(rights []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		all = append(all, fds...)
	}
	return all, nil
}

// broken reports whether the other end is gone.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
