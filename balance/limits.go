package balance

import (
	"net"
	"net/netip"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// DefaultConnections is how many clients' connections a frontend has at most,
// where [Limits] does not say.
const DefaultConnections = 16384

// DefaultStreams is how many requests of one HTTP/2 connection are under way at
// most, where [Limits] does not say.
const DefaultStreams = 1000

// Limits bounds what the clients of a frontend may take of it, in ModeHTTP and
// ModeTCP. In ModeUDP it has to be zero. Negative values break a rule, and so does what
// would mean nothing.
type Limits struct {
	// Connections is how many connections of clients are open at most,
	// [DefaultConnections] where zero. One more is reset at once.
	Connections int
	// ClientConnections is the same for those of one address, without the port.
	// Zero is no bound: many people share an address behind NAT.
	ClientConnections int
	// Streams is how many requests of one HTTP/2 connection are under way at most in
	// ModeHTTP, [DefaultStreams] where zero. Clients are told of it (RFC 9113 section
	// 5.1.2) and wait; one more is refused. In ModeTCP it has to be zero.
	Streams int
	// Body is how many bytes the body of a request may have in ModeHTTP; what has
	// more is answered with 413. Zero is no bound, and what it has to be in ModeTCP.
	Body int64
	// BackendRequests is how many requests (connections in ModeTCP) a backend gets
	// at a time at most. Zero is no bound. Beyond it a request waits in the queue.
	BackendRequests int
	// Queue is how many requests of a frontend wait at most. What finds it full is
	// shed: answered with 503 and Retry-After, in ModeTCP reset. With zero nothing
	// waits, and without BackendRequests it has to be zero.
	Queue int
	// QueueWait is how long one waits at most until it is shed too,
	// [DefaultQueueWait] where zero.
	QueueWait time.Duration
}

// problem says what is wrong with the limits for a mode, "" for nothing.
func (l Limits) problem(mode bunfile.BalanceMode) string {
	switch {
	case l.Connections < 0 || l.ClientConnections < 0 || l.Streams < 0 || l.Body < 0 || l.BackendRequests < 0 || l.Queue < 0 || l.QueueWait < 0:
		return "a limit is negative; 0 is the default"
	case mode == ModeUDP && l != Limits{}:
		return `mode "udp" has none of these limits; use WithUDPSessions`
	case mode == bunfile.ModeTCP && (l.Streams > 0 || l.Body > 0):
		return `mode "tcp" knows neither streams nor bodies, of which there are limits`
	case l.Queue > 0 && l.BackendRequests == 0:
		return "there is a queue, in which nobody waits without a limit on the requests of a backend"
	}
	return ""
}

// clientAddr is the address of a connection's other end, zero where it has none.
func clientAddr(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// full reports whether the limits leave no room for one more connection of the
// address.
func (s *connSet) full(addr netip.Addr, l Limits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) >= l.Connections ||
		l.ClientConnections > 0 && addr.IsValid() && s.clients[addr] >= l.ClientConnections
}

// with returns l for a frontend of the given limits, with the defaults filled in.
func (l limits) with(c Limits) limits {
	if c.Connections == 0 {
		c.Connections = DefaultConnections
	}
	if c.Streams == 0 {
		c.Streams = DefaultStreams
	}
	if c.QueueWait == 0 {
		c.QueueWait = DefaultQueueWait
	}
	l.clients = c
	return l
}
