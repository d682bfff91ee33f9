package mdns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
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
// each on all interfaces in use, which are those that [choose] picks at each look.
type sockets struct {
	log *slog.Logger
	// names are the interfaces to use, if they are named.
	names []string
	watch *watcher
	// seen is what the last look saw.
	seen   atomic.Pointer[sight]
	closed chan struct{}

	// The rest is used by one goroutine at a time, but for what mu guards.

	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
	// on4 and on6 are the interfaces on which the group was joined.
	on4, on6 map[int]bool
	// failed4 and failed6 are what kept a family from being used, or nil.
	failed4, failed6 error

	mu sync.Mutex
	// deliver is what receive was given, nil before.
	deliver func(inbound)
	readers sync.WaitGroup
}

// sight is the interfaces in use at a moment. It does not change.
type sight struct {
	ifaces map[int]candidate
	order  []int
}

// listen opens the sockets. It fails if there are interfaces of which none can
// be used, or not every one that is named. Without any it waits for one to come.
func listen(names []string, log *slog.Logger) (*sockets, error) {
	s := &sockets{
		log: log, names: names, watch: watch(log), closed: make(chan struct{}),
		on4: make(map[int]bool), on6: make(map[int]bool),
	}
	s.seen.Store(&sight{})
	// Before the first look, so that nothing happens between the two unseen.
	list, err := interfaces()
	if err == nil {
		err = nameInterfaces(list, names)
	}
	if err == nil {
		err = s.start(choose(list, names))
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := errors.Join(s.failed4, s.failed6); err != nil {
		log.Debug("mDNS runs without one of IPv4 and IPv6", "err", err)
	}
	return s, nil
}

// start opens the sockets at once, also where no interface has an address yet:
// whether the port can be had should show now.
func (s *sockets) start(chosen []candidate) error {
	if s.open4(); s.v4 == nil {
		s.open6()
	}
	s.use(chosen)
	used, failed := len(s.links()), errors.Join(s.failed4, s.failed6)
	switch {
	case s.v4 == nil && s.v6 == nil:
		return fmt.Errorf("multicast DNS cannot be used: %w", failed)
	case len(chosen) > 0 && used == 0 || len(s.names) > 0 && used < len(chosen):
		return fmt.Errorf("multicast DNS cannot be used on %s: %w", nameList(chosen), failed)
	}
	return nil
}

func (s *sockets) changed() <-chan struct{} { return s.watch.changed }

// look finds out which interfaces there are now.
func (s *sockets) look() {
	list, err := interfaces()
	if err != nil {
		s.log.Warn("mDNS stays on the interfaces that it has", "err", err)
		return
	}
	s.use(choose(list, s.names))
}

// use joins the groups on interfaces that are new, and leaves those of the
// others. One on which that fails is tried again at the next look.
func (s *sockets) use(chosen []candidate) {
	now := &sight{ifaces: make(map[int]candidate)}
	for _, c := range chosen {
		s.join4(c)
		s.join6(c)
		if s.on4[c.Index] || s.on6[c.Index] {
			now.ifaces[c.Index] = c
			now.order = append(now.order, c.Index)
		}
	}
	for l, c := range s.seen.Load().ifaces {
		if _, ok := now.ifaces[l]; ok {
			continue
		}
		// Errors mean that the interface is gone, and the membership with it.
		if s.on4[l] {
			_ = s.v4.LeaveGroup(&c.Interface, &net.UDPAddr{IP: group4().AsSlice()})
		}
		if s.on6[l] {
			_ = s.v6.LeaveGroup(&c.Interface, &net.UDPAddr{IP: group6().AsSlice()})
		}
		delete(s.on4, l)
		delete(s.on6, l)
	}
	s.seen.Store(now)
}

// open4 opens the socket for IPv4, once.
func (s *sockets) open4() {
	if s.v4 != nil {
		return
	}
	pc, err := bind("udp4", netip.AddrPortFrom(group4(), mdnsPort))
	if err != nil {
		s.failed4 = fmt.Errorf("open UDP port %d for IPv4: %w", mdnsPort, err)
		return
	}
	p := ipv4.NewPacketConn(pc)
	// Where these are not known, the kernel's choice must do: Windows has no
	// control messages.
	_ = p.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true)
	_ = p.SetTTL(hops)
	s.failed4 = errors.Join(p.SetMulticastTTL(hops), p.SetMulticastLoopback(true))
	s.read(func() { s.v4 = p }, s.read4)
}

func (s *sockets) join4(c candidate) {
	want := slices.ContainsFunc(c.addrs, netip.Addr.Is4)
	if !want || s.on4[c.Index] {
		s.on4[c.Index] = want
		return
	}
	if s.open4(); s.v4 == nil {
		return
	}
	group := &net.UDPAddr{IP: group4().AsSlice()}
	_ = s.v4.LeaveGroup(&c.Interface, group) // in case that it had no address for a while
	if err := s.v4.JoinGroup(&c.Interface, group); err != nil {
		s.failed4 = fmt.Errorf("join %s on %s: %w", group4(), c.Name, err)
		s.log.Debug("mDNS cannot use IPv4 on an interface", "err", s.failed4)
		return
	}
	s.on4[c.Index] = true
}

// open6 opens the socket for IPv6, once.
func (s *sockets) open6() {
	if s.v6 != nil {
		return
	}
	pc, err := bind("udp6", netip.AddrPortFrom(group6(), mdnsPort))
	if err != nil {
		s.failed6 = fmt.Errorf("open UDP port %d for IPv6: %w", mdnsPort, err)
		return
	}
	p := ipv6.NewPacketConn(pc)
	_ = p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true)
	_ = p.SetHopLimit(hops)
	s.failed6 = errors.Join(p.SetMulticastHopLimit(hops), p.SetMulticastLoopback(true))
	s.read(func() { s.v6 = p }, s.read6)
}

func (s *sockets) join6(c candidate) {
	want := slices.ContainsFunc(c.addrs, netip.Addr.Is6)
	if !want || s.on6[c.Index] {
		s.on6[c.Index] = want
		return
	}
	if s.open6(); s.v6 == nil {
		return
	}
	group := &net.UDPAddr{IP: group6().AsSlice()}
	_ = s.v6.LeaveGroup(&c.Interface, group)
	if err := s.v6.JoinGroup(&c.Interface, group); err != nil {
		s.failed6 = fmt.Errorf("join %s on %s: %w", group6(), c.Name, err)
		s.log.Debug("mDNS cannot use IPv6 on an interface", "err", s.failed6)
		return
	}
	s.on6[c.Index] = true
}

func (s *sockets) links() []int { return s.seen.Load().order }

func (s *sockets) zone(link int) string { return s.seen.Load().ifaces[link].Name }

func (s *sockets) addrs(link int) []netip.Addr { return s.seen.Load().ifaces[link].addrs }

// local asks the system each time: what cannot be used yet is ours, too.
func (s *sockets) local() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		s.log.Debug("addresses of this machine not known", "err", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if addr, ok := addrOf(a); ok {
			addrs = append(addrs, addr)
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
	return max(minRoom, min(maxRoom, s.seen.Load().ifaces[link].MTU-headers))
}

func (s *sockets) receive(deliver func(inbound)) {
	s.mu.Lock()
	s.deliver = deliver
	if s.v4 != nil {
		s.readers.Go(func() { s.read4(deliver) })
	}
	if s.v6 != nil {
		s.readers.Go(func() { s.read6(deliver) })
	}
	s.mu.Unlock()
	<-s.closed
	s.readers.Wait()
}

// read sets a socket that was opened just now, and begins to read it if the
// others are read already.
func (s *sockets) read(set func(), from func(deliver func(inbound))) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set()
	if deliver := s.deliver; deliver != nil {
		s.readers.Go(func() { from(deliver) })
	}
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
	if _, ok := s.seen.Load().ifaces[in.link]; !ok {
		return
	}
	in.data = append([]byte(nil), data...)
	deliver(in)
}

// linkOf returns the interface whose network an address is in, or -1.
func (s *sockets) linkOf(from netip.Addr) int {
	seen := s.seen.Load()
	for _, l := range seen.order {
		i := seen.ifaces[l]
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
	i := s.seen.Load().ifaces[o.link].Interface
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
	errs := []error{s.watch.close()}
	if s.v4 != nil {
		errs = append(errs, s.v4.Close())
	}
	if s.v6 != nil {
		errs = append(errs, s.v6.Close())
	}
	return errors.Join(errs...)
}
