//go:build linux

package lan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Packet is an IP packet that a host put on a switch.
type Packet struct {
	// At is when it was seen.
	At time.Time
	// NIC is the card that sent it, nil if it was none of the laboratory's.
	NIC *NIC
	// Protocol is the number of the protocol above IP: 17 for UDP.
	Protocol byte
	// Src and Dst are its addresses, with the ports of UDP and TCP.
	Src, Dst netip.AddrPort
	// Payload is what UDP carries; nil for other protocols.
	Payload []byte
}

// String returns a line about the packet.
func (p Packet) String() string {
	from := "nobody"
	if p.NIC != nil {
		from = p.NIC.Host.Name + "/" + p.NIC.Name
	}
	return fmt.Sprintf("%s: %s > %s protocol %d, %d bytes", from, p.Src, p.Dst, p.Protocol, len(p.Payload))
}

// Capture is a record of all IP packets on a switch, each once, also of those
// that a fault keeps from arriving. Other frames, such as those of ARP, are left
// out. Its methods may be called concurrently.
type Capture struct {
	file *os.File
	nics map[[6]byte]*NIC
	// done is closed when the reader has ended, which alone sets err until then.
	done chan struct{}
	err  error
	once sync.Once

	mu      sync.Mutex
	packets []Packet
}

// Capture begins a record, which ends with Stop or the test. Packets that were
// sent before are not in it; every one that is sent after the return is.
func (s *Switch) Capture() *Capture {
	l := s.lab
	l.t.Helper()
	c := &Capture{nics: make(map[[6]byte]*NIC), done: make(chan struct{})}
	for _, n := range s.nics {
		mac, err := net.ParseMAC(n.mac)
		l.must(err)
		c.nics[[6]byte(mac)] = n
	}
	l.must(l.cabinet.in(unix.CLONE_NEWNET, func() error { return c.open(s.name) }))
	go c.read()
	l.t.Cleanup(func() { l.must(c.close()) })
	return c
}

// captureBuffer is room for what comes while the reader is not scheduled.
const captureBuffer = 16 << 20

func (c *Capture) open(dev string) error {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	c.file = os.NewFile(uintptr(fd), "capture")
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}),
	); err != nil {
		_ = c.file.Close()
		return fmt.Errorf("capture on %s: %w", dev, err)
	}
	return nil
}

func (c *Capture) read() {
	defer close(c.done)
	buf := make([]byte, 1<<16)
	for {
		n, err := c.file.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.err = err
			}
			return
		}
		c.note(buf[:n])
	}
}

// close ends the record, with all that was sent before, and reports what is
// missing in it.
func (c *Capture) close() error {
	c.once.Do(func() {
		// The reader gives up; what it left in the socket is read here.
		err := c.file.SetReadDeadline(time.Now())
		<-c.done
		raw, rawErr := c.file.SyscallConn()
		if err = errors.Join(err, rawErr); err == nil {
			err = raw.Control(func(fd uintptr) { c.err = errors.Join(c.err, c.drain(int(fd))) })
		}
		c.err = errors.Join(c.err, err, c.file.Close())
	})
	return c.err
}

// drain takes in what is in the socket.
func (c *Capture) drain(fd int) error {
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		c.note(buf[:n])
	}
	stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err == nil && stats.Drops > 0 {
		err = fmt.Errorf("capture: %d packets were missed", stats.Drops)
	}
	return err
}

// note records a frame.
func (c *Capture) note(frame []byte) {
	if p, ok := c.parse(frame); ok {
		c.mu.Lock()
		c.packets = append(c.packets, p)
		c.mu.Unlock()
	}
}

// Packets returns what was seen so far and is ok; a nil ok means everything.
func (c *Capture) Packets(ok func(Packet) bool) []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Packet
	for _, p := range c.packets {
		if ok == nil || ok(p) {
			list = append(list, p)
		}
	}
	return list
}

// Stop ends the record and returns what was seen and is ok.
func (c *Capture) Stop(ok func(Packet) bool) ([]Packet, error) {
	err := c.close()
	return c.Packets(ok), err
}

// parse reads a frame.
func (c *Capture) parse(frame []byte) (Packet, bool) {
	const header = 14
	if len(frame) < header {
		return Packet{}, false
	}
	p := Packet{At: time.Now(), NIC: c.nics[[6]byte(frame[6:12])]}
	body := frame[header:]
	var src, dst netip.Addr
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		if len(body) < 20 || len(body) < int(body[0]&15)*4 {
			return Packet{}, false
		}
		p.Protocol = body[9]
		src, dst = netip.AddrFrom4([4]byte(body[12:16])), netip.AddrFrom4([4]byte(body[16:20]))
		body = body[int(body[0]&15)*4:]
	case unix.ETH_P_IPV6:
		if len(body) < 40 {
			return Packet{}, false
		}
		p.Protocol = body[6]
		src, dst = netip.AddrFrom16([16]byte(body[8:24])), netip.AddrFrom16([16]byte(body[24:40]))
		body = body[40:]
	default:
		return Packet{}, false
	}
	var from, to uint16
	if (p.Protocol == unix.IPPROTO_UDP || p.Protocol == unix.IPPROTO_TCP) && len(body) >= 8 {
		from, to = binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])
	}
	if p.Protocol == unix.IPPROTO_UDP && len(body) >= 8 {
		p.Payload = append([]byte{}, body[8:]...)
	}
	p.Src, p.Dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return p, true
}

// MDNS is true for packets of multicast DNS.
func MDNS(p Packet) bool {
	const port = 5353
	return p.Protocol == unix.IPPROTO_UDP && (p.Src.Port() == port || p.Dst.Port() == port)
}
