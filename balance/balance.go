package balance

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// Errors of this package.
var (
	// ErrInvalid: the configuration breaks a rule; the text says which.
	ErrInvalid = errors.New("invalid balancer configuration")
	// ErrNoBackend: no backend could take the request.
	ErrNoBackend = errors.New("no backend is available")
)

// Backend is an address that can serve.
type Backend struct {
	// ID identifies the backend across updates: the replica's id.
	ID string
	// Addr is a host:port to dial. In ModeUDP the host has to be an IP address, or the
	// Config's Dial something that takes it.
	Addr string
	// Weight is its share of the traffic in proportion to those of the others,
	// for the algorithm Weighted. 0 and below count as 1, and no more than
	// 1048576 counts. It is no part of what identifies the backend.
	Weight int
	// Backup is true for a backend that is used only where no other is healthy, has
	// room, and has not failed the request already. It is no part of what
	// identifies the backend.
	Backup bool
}

// ModeUDP is the mode of a frontend that forwards datagrams. It is no word of a
// .bun file: there the protocol of a port says it.
const ModeUDP bunfile.BalanceMode = "udp"

// Config is what a frontend is made of.
type Config struct {
	// Name is the service's, for messages.
	Name string
	// Listener accepts the traffic of ModeHTTP and ModeTCP, and is nil in
	// ModeUDP. The frontend owns it and closes it.
	Listener net.Listener
	// PacketConn receives the datagrams of ModeUDP, and is nil in the other
	// modes. The frontend owns it and closes it. A *net.UDPConn serves best: its
	// datagrams pass without allocations, and one that is bound to all of the
	// machine's addresses answers from the one that the client wrote to.
	PacketConn net.PacketConn
	// TLS is what ModeHTTP offers clients, which then speak HTTP/2 or HTTP/1.1 as
	// they negotiate (ALPN, RFC 7301), unless its NextProtos says otherwise; nil
	// means no TLS. It has to have a certificate, or a function that finds one, and
	// is not changed after Listen. Listener is below it. In other modes it is nil.
	TLS *tls.Config
	// Mode is ModeHTTP, ModeTCP or ModeUDP.
	Mode bunfile.BalanceMode
	// Protocol is what backends are spoken to by in ModeHTTP, ProtocolAuto where
	// empty. In other modes it means nothing, and must not be ProtocolH2C.
	Protocol bunfile.BackendProtocol
	// Algorithm is RoundRobin where empty.
	Algorithm bunfile.Algorithm
	// Hash says what ConsistentHash goes by. The zero value is the client's
	// address, without the port; it is also what counts where a request lacks
	// the header or the cookie. In ModeTCP and ModeUDP, which know neither, and with
	// other algorithms it has to be zero.
	Hash bunfile.Hash
	// Dial connects to the Addr of a backend, for traffic and for probes; nil means
	// by TCP. It may be called concurrently, and has to heed ctx. Its connections
	// should have a CloseWrite, as a *net.TCPConn does, for protocols in which one side
	// ends before the other; and where they are on others, a NetConn that returns those,
	// as a *tls.Conn does, so that a reset is passed on as one. In ModeUDP it is called for what is no IP address with a
	// port, and each Read and each Write of its connections is one datagram.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// SlowStart is the time over which a backend that joins, or comes back into
	// rotation, gets to its full share, beginning with a tenth of it. Zero means that
	// it has that at once, and so do all where all are equally new.
	SlowStart time.Duration
	// Limits bounds what clients may take; the zero value is the defaults.
	Limits Limits
	// Check says how backends are probed; nil means that they are not, and
	// only traffic tells. It is nil in ModeUDP: a port that does not answer a
	// probe may well serve.
	Check *Check
	// Observer is told of the frontend's traffic; nil means nobody is, at no cost.
	Observer Observer
	// Hold is closed when the frontend may take what waits at its socket, for one
	// that another process still serves; nil means at once.
	Hold <-chan struct{}
}

// Check is an active health check.
type Check struct {
	// Path is requested with GET in HTTP mode; 200 to 399 is healthy. Empty
	// means that accepting a connection is enough.
	Path string
	// Interval between the probes of a backend, 2 s where zero.
	Interval time.Duration
	// Timeout of a probe, 1 s where zero.
	Timeout time.Duration
	// Rise is how many successes in a row bring a backend back, 1 where zero.
	Rise int
	// Fall is how many failures in a row take a backend out, 3 where zero.
	Fall int
}

// BackendStatus is what a frontend knows of a backend.
type BackendStatus struct {
	Backend
	// Healthy is false where checks or failed traffic took the backend out of
	// rotation.
	Healthy bool
	// Active is the number of requests (connections in TCP mode, sessions in UDP
	// mode) under way.
	Active int
	// Requests is the number of requests (connections, sessions) that it
	// answered or is answering.
	Requests uint64
	// Failures is the number of requests (connections, sessions) that failed
	// there, whether or not another backend then served them.
	Failures uint64
	// Shed is the number of requests (connections) that were turned away while it was
	// among the backends that had as many as they may have (see Limits). In ModeUDP it
	// is the number of its sessions that were ended early because the frontend had too
	// many.
	Shed uint64
	// Share is what part of its share of the traffic it gets at the moment, from 0.1
	// to 1: less than 1 while it warms up (see Config.SlowStart).
	Share float64
	// LastError is the last failure of a probe or a request; nil if none.
	LastError error
}

// Frontend is a listening socket with a pool of backends behind it. All
// methods may be called concurrently.
type Frontend interface {
	// Addr is the address it accepts on.
	Addr() net.Addr
	// Update replaces the set of backends. Backends that stay, by ID and Addr,
	// whatever their weights and whether they are backups, keep their state and connections; requests under
	// way at ones that leave end undisturbed, UDP sessions there end, so that
	// what their clients send next goes to another.
	Update(backends []Backend)
	// Status lists the backends, sorted by ID.
	Status() []BackendStatus
	// Shutdown stops accepting and waits for what is under way until ctx ends,
	// then cuts it off and returns ctx's error. It can be called again. A UDP
	// session is under way until it is quiet.
	Shutdown(ctx context.Context) error
}

// Leaver is a [Frontend] that can leave its socket to another process, which has it
// too. All frontends of this package are.
type Leaver interface {
	// Leave stops taking anything from the socket before it returns; what waits there
	// is the other process's. Nothing else ends by it: Shutdown has to follow.
	Leave()
}
