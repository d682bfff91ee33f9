package balance

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// maxDatagram is more than any datagram has: the length field of UDP has 16
// bits (RFC 768).
const maxDatagram = 1 << 16

// datagrams is the socket of a frontend. One goroutine receives; sending may be
// done by many.
type datagrams interface {
	// receive reads the next datagram into b.
	receive(b []byte) (n int, from flow, err error)
	// path returns how to answer.
	path(from flow) replyPath
	// send answers. It may change the path, which one goroutine uses at a time.
	send(b []byte, path *replyPath) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	LocalAddr() net.Addr
	Close() error
}

// replyPath is how answers get to a client.
type replyPath struct {
	to netip.AddrPort
	// control makes the system send from the address that the client wrote to;
	// nil leaves the choice to the system.
	control []byte
}

func newDatagrams(c net.PacketConn, log *slog.Logger) datagrams {
	if u, ok := c.(*net.UDPConn); ok {
		return newUDPSocket(u, log)
	}
	return plainSocket{c}
}

// controlSize holds the control messages of either protocol's packet
// information.
const controlSize = 128

// udpSocket is a socket of the system.
type udpSocket struct {
	*net.UDPConn
	bound   netip.AddrPort
	control []byte // nil where there is only one address to write to
	// locals are the addresses that control messages name. To parse one
	// allocates, and they are few.
	locals map[string]netip.Addr
}

// maxLocals is how many of them are remembered.
const maxLocals = 256

func newUDPSocket(c *net.UDPConn, log *slog.Logger) *udpSocket {
	s := &udpSocket{UDPConn: c, locals: map[string]netip.Addr{}}
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		s.bound = a.AddrPort()
	}
	raiseDatagramSize(c)
	if !s.bound.Addr().IsUnspecified() {
		return s
	}
	var err error
	if s.bound.Addr().Is4() {
		err = ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst, true)
	} else {
		// Of a client of IPv4 it tells the address as one of IPv6.
		err = ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		log.Debug("answers may leave from another address than clients wrote to", "err", err)
		return s
	}
	s.control = make([]byte, controlSize)
	return s
}

func (s *udpSocket) receive(b []byte) (int, flow, error) {
	for {
		n, cn, _, client, err := s.ReadMsgUDPAddrPort(b, s.control)
		if err != nil {
			return 0, flow{}, err
		}
		from := flow{client: client, local: s.local(s.control[:cn])}
		if client.Port() != 0 && !s.own(from) {
			return n, from, nil
		}
		// Nobody can be answered there; the socket itself would be, for ever.
	}
}

// own reports whether a datagram claims to be from this socket.
func (s *udpSocket) own(from flow) bool {
	addr := s.bound.Addr()
	if from.local.IsValid() {
		addr = from.local
	}
	return from.client == netip.AddrPortFrom(addr, s.bound.Port())
}

// local returns the address that a control message says a datagram was sent to.
func (s *udpSocket) local(control []byte) netip.Addr {
	if len(control) == 0 {
		return netip.Addr{}
	}
	if a, ok := s.locals[string(control)]; ok {
		return a
	}
	var dst net.IP
	if s.bound.Addr().Is4() {
		var cm ipv4.ControlMessage
		if cm.Parse(control) == nil {
			dst = cm.Dst
		}
	} else {
		var cm ipv6.ControlMessage
		if cm.Parse(control) == nil {
			dst = cm.Dst
		}
	}
	a, _ := netip.AddrFromSlice(dst) // not valid where it was not told
	if len(s.locals) >= maxLocals {
		clear(s.locals)
	}
	s.locals[string(control)] = a
	return a
}

func (s *udpSocket) path(from flow) replyPath {
	p := replyPath{to: from.client}
	switch a := from.local.Unmap(); {
	case !a.IsValid() || a.IsMulticast():
	case a.Is4():
		p.control = (&ipv4.ControlMessage{Src: a.AsSlice()}).Marshal()
	default:
		p.control = (&ipv6.ControlMessage{Src: a.AsSlice()}).Marshal()
	}
	return p
}

func (s *udpSocket) send(b []byte, path *replyPath) error {
	_, _, err := s.WriteMsgUDPAddrPort(b, path.control, path.to)
	if err == nil || path.control == nil || errors.Is(err, net.ErrClosed) || undelivered(err) {
		return err
	}
	// What clients wrote to need not be an address to send from: it may be that
	// of all machines of a network.
	if _, _, err = s.WriteMsgUDPAddrPort(b, nil, path.to); err == nil {
		path.control = nil
	}
	return err
}

// plainSocket is anything else that carries datagrams.
type plainSocket struct{ net.PacketConn }

func (s plainSocket) receive(b []byte) (int, flow, error) {
	for {
		n, addr, err := s.ReadFrom(b)
		if err != nil {
			return 0, flow{}, err
		}
		if u, ok := addr.(interface{ AddrPort() netip.AddrPort }); ok {
			return n, flow{client: u.AddrPort()}, nil
		}
		if a, err := netip.ParseAddrPort(addr.String()); err == nil {
			return n, flow{client: a}, nil
		}
	}
}

func (s plainSocket) path(from flow) replyPath { return replyPath{to: from.client} }

func (s plainSocket) send(b []byte, path *replyPath) error {
	_, err := s.WriteTo(b, net.UDPAddrFromAddrPort(path.to))
	return err
}

// udpConn is a socket that is connected to a backend. One goroutine receives,
// and one sends at a time.
type udpConn interface {
	// receive waits for a datagram and calls deliver with it, which may use it
	// until it returns.
	receive(deliver func([]byte)) error
	// send sends a datagram. Where the system has no room for it, it is dropped
	// rather than that others wait.
	send(b []byte) error
	SetReadDeadline(time.Time) error
	Close() error
}

// plainConn is the udpConn of any connection. It holds a buffer all the time,
// and a send may block.
type plainConn struct {
	net.Conn
	buffers *sync.Pool
}

func (c *plainConn) receive(deliver func([]byte)) error {
	buf := c.buffers.Get().(*[maxDatagram]byte)
	defer c.buffers.Put(buf)
	n, err := c.Read(buf[:])
	if err == nil {
		deliver(buf[:n])
	}
	return err
}

func (c *plainConn) send(b []byte) error {
	_, err := c.Write(b)
	return err
}

// undelivered reports whether err says that a datagram did not go out because of
// its size or of a lack of room, which tells nothing of who was to get it.
func undelivered(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EMSGSIZE)
}
