package mdns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// The groups: RFC 6762 section 3.
func group4() netip.Addr { return netip.AddrFrom4([4]byte{224, 0, 0, 251}) }
func group6() netip.Addr { return netip.MustParseAddr("ff02::fb") }

const (
	// maxRoom is how large our packets get, whatever the interface could carry:
	// an Ethernet frame less the headers of IPv6 and UDP.
	maxRoom = 1500 - headers
	headers = 40 + 8
	// minRoom is what IPv4 promises to carry.
	minRoom = 576 - headers
	// hops is the TTL of packets: RFC 6762 section 11.
	hops = 255
)

// sockets is the transport that consists of a socket for IPv4 and one for IPv6,
// each on all interfaces.
type sockets struct {
	log    *slog.Logger
	ifaces map[int]net.Interface
	order  []int
	v4     *ipv4.PacketConn
	v6     *ipv6.PacketConn
	// on4 and on6 are the interfaces on which the group was joined.
	on4, on6 map[int]bool
	closed   chan struct{}
}

// listen opens the sockets. It fails if some interface can be served by
// neither.
func listen(ifaces []net.Interface, log *slog.Logger) (*sockets, error) {
	s := &sockets{log: log, ifaces: make(map[int]net.Interface), on4: make(map[int]bool), on6: make(map[int]bool), closed: make(chan struct{})}
	var errs []error
	for _, i := range ifaces {
		if _, twice := s.ifaces[i.Index]; !twice {
			s.ifaces[i.Index] = i
			s.order = append(s.order, i.Index)
		}
	}
	if err := s.open4(); err != nil {
		errs = append(errs, err)
	}
	if err := s.open6(); err != nil {
		errs = append(errs, err)
	}
	for _, l := range s.order {
		if !s.on4[l] && !s.on6[l] {
			errs = append(errs, s.close())
			return nil, fmt.Errorf("multicast DNS cannot be used on %s: %w", s.zone(l), errors.Join(errs...))
		}
	}
	if err := errors.Join(errs...); err != nil {
		log.Debug("mDNS runs without one of IPv4 and IPv6", "err", err)
	}
	return s, nil
}

func (s *sockets) open4() error {
	pc, err := bind("udp4", netip.AddrPortFrom(group4(), mdnsPort))
	if err != nil {
		return fmt.Errorf("open UDP port %d for IPv4: %w", mdnsPort, err)
	}
	p := ipv4.NewPacketConn(pc)
	var errs []error
	for l, i := range s.ifaces {
		if !slices.ContainsFunc(interfaceAddrs(i), netip.Addr.Is4) {
			continue
		}
		if err := p.JoinGroup(&i, &net.UDPAddr{IP: group4().AsSlice()}); err != nil {
			errs = append(errs, fmt.Errorf("join %s on %s: %w", group4(), i.Name, err))
			continue
		}
		s.on4[l] = true
	}
	// Where these are not known, the kernel's choice must do: Windows has no
	// control messages.
	_ = p.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true)
	_ = p.SetTTL(hops)
	errs = append(errs, p.SetMulticastTTL(hops), p.SetMulticastLoopback(true))
	s.v4 = p
	return errors.Join(errs...)
}

func (s *sockets) open6() error {
	if !slices.ContainsFunc(s.order, func(l int) bool {
		return slices.ContainsFunc(s.addrs(l), netip.Addr.Is6)
	}) {
		return nil
	}
	pc, err := bind("udp6", netip.AddrPortFrom(group6(), mdnsPort))
	if err != nil {
		return fmt.Errorf("open UDP port %d for IPv6: %w", mdnsPort, err)
	}
	p := ipv6.NewPacketConn(pc)
	var errs []error
	for l, i := range s.ifaces {
		if !slices.ContainsFunc(s.addrs(l), netip.Addr.Is6) {
			continue
		}
		if err := p.JoinGroup(&i, &net.UDPAddr{IP: group6().AsSlice()}); err != nil {
			errs = append(errs, fmt.Errorf("join %s on %s: %w", group6(), i.Name, err))
			continue
		}
		s.on6[l] = true
	}
	_ = p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true)
	_ = p.SetHopLimit(hops)
	errs = append(errs, p.SetMulticastHopLimit(hops), p.SetMulticastLoopback(true))
	s.v6 = p
	return errors.Join(errs...)
}

func (s *sockets) links() []int { return s.order }

func (s *sockets) zone(link int) string { return s.ifaces[link].Name }

// addrs asks the system each time, so that answers follow a change of address.
func (s *sockets) addrs(link int) []netip.Addr { return interfaceAddrs(s.ifaces[link]) }

// local asks the system each time, too.
func (s *sockets) local() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		s.log.Debug("addresses of this machine not known", "err", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs
}

func (s *sockets) copies(link int) int {
	n := 0
	if s.on4[link] {
		n++
	}
	if s.on6[link] {
		n++
	}
	return n
}

func (s *sockets) room(link int) int {
	return max(minRoom, min(maxRoom, s.ifaces[link].MTU-headers))
}

func (s *sockets) receive(deliver func(inbound)) {
	var wg sync.WaitGroup
	if s.v4 != nil {
		wg.Go(func() { s.read4(deliver) })
	}
	if s.v6 != nil {
		wg.Go(func() { s.read6(deliver) })
	}
	wg.Wait()
}

func (s *sockets) read4(deliver func(inbound)) {
	buf := make([]byte, maxPacket)
	for {
		n, cm, from, err := s.v4.ReadFrom(buf)
		if err != nil {
			if s.failed(err) {
				return
			}
			continue
		}
		in := s.inbound(from)
		in.multicast = true
		if cm != nil {
			in.link, in.multicast = cm.IfIndex, cm.Dst == nil || cm.Dst.IsMulticast()
		}
		s.pass(in, buf[:n], deliver)
	}
}

func (s *sockets) read6(deliver func(inbound)) {
	buf := make([]byte, maxPacket)
	for {
		n, cm, from, err := s.v6.ReadFrom(buf)
		if err != nil {
			if s.failed(err) {
				return
			}
			continue
		}
		in := s.inbound(from)
		in.multicast = true
		if cm != nil {
			in.link, in.multicast = cm.IfIndex, cm.Dst == nil || cm.Dst.IsMulticast()
		}
		s.pass(in, buf[:n], deliver)
	}
}

// failed waits a little after an error of a read, since the next one may fail
// as fast, and returns true when the sockets are closed.
func (s *sockets) failed(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	s.log.Debug("mDNS packet not received", "err", err)
	select {
	case <-s.closed:
		return true
	case <-time.After(tick):
		return false
	}
}

// inbound begins a received packet, with its source and no interface yet.
func (s *sockets) inbound(from net.Addr) inbound {
	in := inbound{link: -1}
	if u, ok := from.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		in.from = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return in
}

// pass delivers a packet that came in on one of the interfaces. Others arrive
// because another program on the machine joined the group there. Systems that
// do not tell the interface make it a guess from the source.
func (s *sockets) pass(in inbound, data []byte, deliver func(inbound)) {
	if in.link < 0 {
		in.link = s.linkOf(in.from.Addr())
	}
	if _, ok := s.ifaces[in.link]; !ok {
		return
	}
	in.data = append([]byte(nil), data...)
	deliver(in)
}

// linkOf returns the interface whose network an address is in, or -1.
func (s *sockets) linkOf(from netip.Addr) int {
	for _, l := range s.order {
		i := s.ifaces[l]
		list, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range list {
			if n, ok := a.(*net.IPNet); ok && n.Contains(from.AsSlice()) && (from.Zone() == "" || from.Zone() == i.Name) {
				return l
			}
		}
	}
	return -1
}

func (s *sockets) send(o outgoing) error {
	if o.to.IsValid() {
		return s.sendTo(o.data, o.to)
	}
	i := s.ifaces[o.link]
	var errs []error
	if s.on4[o.link] {
		errs = append(errs, s.multicast4(o.data, i))
	}
	if s.on6[o.link] {
		errs = append(errs, s.multicast6(o.data, i))
	}
	return errors.Join(errs...)
}

func (s *sockets) sendTo(data []byte, to netip.AddrPort) error {
	addr := net.UDPAddrFromAddrPort(to)
	var err error
	switch {
	case to.Addr().Is4() && s.v4 != nil:
		_, err = s.v4.WriteTo(data, nil, addr)
	case to.Addr().Is6() && s.v6 != nil:
		_, err = s.v6.WriteTo(data, nil, addr)
	}
	return err
}

func (s *sockets) multicast4(data []byte, i net.Interface) error {
	if err := s.v4.SetMulticastInterface(&i); err != nil {
		return err
	}
	// On loopback Linux would choose the address of another interface.
	var cm *ipv4.ControlMessage
	if i.Flags&net.FlagLoopback != 0 {
		cm = &ipv4.ControlMessage{Src: net.IPv4(127, 0, 0, 1), IfIndex: i.Index}
	}
	_, err := s.v4.WriteTo(data, cm, &net.UDPAddr{IP: group4().AsSlice(), Port: mdnsPort})
	return err
}

func (s *sockets) multicast6(data []byte, i net.Interface) error {
	if err := s.v6.SetMulticastInterface(&i); err != nil {
		return err
	}
	_, err := s.v6.WriteTo(data, nil, &net.UDPAddr{IP: group6().AsSlice(), Port: mdnsPort, Zone: i.Name})
	return err
}

func (s *sockets) close() error {
	close(s.closed)
	var errs []error
	if s.v4 != nil {
		errs = append(errs, s.v4.Close())
	}
	if s.v6 != nil {
		errs = append(errs, s.v6.Close())
	}
	return errors.Join(errs...)
}
