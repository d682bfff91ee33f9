package balance

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// Proxy opens frontends. It is made by [New], needs no closing, and all its
// methods may be called concurrently.
type Proxy struct {
	log     *slog.Logger
	limits  limits
	dialUDP func(netip.AddrPort) (net.Conn, error)
}

// Option changes how a Proxy is made.
type Option func(*Proxy)

// WithLogger sets where the proxy logs: changes of health and failed requests at
// Info and Warn, every request at Debug. Without it, and for nil, it is silent.
func WithLogger(log *slog.Logger) Option {
	return func(p *Proxy) {
		if log != nil {
			p.log = log
		}
	}
}

// WithResponseTimeout bounds the time from the end of an HTTP request to the
// first byte of its response, five minutes without this option; 0 is no bound.
// What takes longer is answered with 504. Bodies are not bounded: events may
// flow for ever.
func WithResponseTimeout(d time.Duration) Option {
	return func(p *Proxy) { p.limits.response = max(d, 0) }
}

// The defaults of UDP mode.
const (
	// DefaultUDPIdleTimeout is longer than what protocols that mean to keep a way
	// open stay silent for, and half of what a NAT grants (RFC 4787, REQ-5): a
	// session holds a socket.
	DefaultUDPIdleTimeout = time.Minute
	// DefaultUDPSessions needs as many sockets.
	DefaultUDPSessions = 4096
)

// WithUDPIdleTimeout sets after how long without a datagram in either direction
// a UDP session ends, [DefaultUDPIdleTimeout] without this option and for 0 and
// below.
func WithUDPIdleTimeout(d time.Duration) Option {
	return func(p *Proxy) {
		if d > 0 {
			p.limits.udpIdle = d
		}
	}
}

// WithUDPSessions sets how many UDP sessions a frontend has at most,
// [DefaultUDPSessions] without this option and for 0 and below. Each holds a
// socket.
func WithUDPSessions(n int) Option {
	return func(p *Proxy) {
		if n > 0 {
			p.limits.udpSessions = n
		}
	}
}

// New returns a proxy of the given options.
func New(opts ...Option) *Proxy {
	p := &Proxy{log: slog.New(slog.DiscardHandler), limits: defaultLimits(), dialUDP: udpDial}
	for _, o := range opts {
		o(p)
	}
	return p
}

// limits are the bounds on what clients and backends may do.
type limits struct {
	clients       Limits
	dial          time.Duration // of a connection to a backend
	response      time.Duration // from request to response header; 0 is none
	header        time.Duration // from the first byte of a request to the end of its header
	keepAlive     time.Duration // a client's idle connection
	upstreamIdle  time.Duration // an idle connection to a backend
	stall         time.Duration // a read or write of a body without progress
	halfOpen      time.Duration // TCP mode: silence after one side has ended
	maxHeader     int           // bytes, of requests
	maxRespHeader int64         // bytes, of responses
	idleQuiet     time.Duration // draining: a kept-alive connection's rest before it is closed, and a UDP session's
	freshQuiet    time.Duration // draining: the same for one that has sent nothing yet
	udpIdle       time.Duration // UDP mode: silence that ends a session
	udpSessions   int           // UDP mode: sessions of a frontend
	noFast        bool          // all of HTTP takes the full path
	udpAnswer     time.Duration // UDP mode: how long an answer is waited for, draining or when its backend left
}

func defaultLimits() limits {
	return limits{
		// One retransmission of a lost SYN fits in.
		dial:      2 * time.Second,
		response:  5 * time.Minute,
		header:    10 * time.Second,
		keepAlive: 2 * time.Minute,
		// Shorter than what common servers grant (Node 5 s): a POST on a
		// connection that the backend closes at this moment cannot be repeated,
		// so this end closes first.
		upstreamIdle:  4 * time.Second,
		stall:         time.Minute,
		halfOpen:      5 * time.Minute,
		maxHeader:     1 << 20,
		maxRespHeader: 1 << 20,
		idleQuiet:     250 * time.Millisecond,
		freshQuiet:    time.Second,
		udpIdle:       DefaultUDPIdleTimeout,
		udpSessions:   DefaultUDPSessions,
		udpAnswer:     time.Second,
	}
}

// Listen starts serving on cfg.Listener or cfg.PacketConn, with no backends at
// first. The frontend lives until its Shutdown; ctx bounds only this call. A
// configuration that breaks a rule gives [ErrInvalid]. After any error the
// listener or socket is open.
func (p *Proxy) Listen(ctx context.Context, cfg Config) (Frontend, error) {
	alg, check, err := validate(cfg)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("balance: listen for %q: %w", cfg.Name, err)
	}
	if cfg.Mode == ModeUDP {
		return p.listenUDP(cfg, alg), nil
	}
	f := newFrontend(p, cfg, alg, check)
	if cfg.Mode == bunfile.ModeHTTP {
		f.traffic = newHTTPTraffic(f, cfg)
	} else {
		f.traffic = newTCPTraffic(f)
	}
	f.start()
	return f, nil
}

// validate checks a configuration and returns its algorithm and its check with
// the defaults filled in.
func validate(cfg Config) (algorithm, *Check, error) {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("balance: %w for %q: %s", ErrInvalid, cfg.Name, fmt.Sprintf(format, args...))
	}
	udp := cfg.Mode == ModeUDP
	switch {
	case !udp && cfg.Mode != bunfile.ModeHTTP && cfg.Mode != bunfile.ModeTCP:
		return nil, nil, invalid("mode is %q; use %q, %q or %q", cfg.Mode, bunfile.ModeHTTP, bunfile.ModeTCP, ModeUDP)
	case !udp && cfg.Listener == nil:
		return nil, nil, invalid("there is no listener")
	case udp && cfg.PacketConn == nil:
		return nil, nil, invalid("there is no packet connection")
	case udp && cfg.Listener != nil || !udp && cfg.PacketConn != nil:
		return nil, nil, invalid("mode %q needs a listener or a packet connection, not both", cfg.Mode)
	case udp && cfg.Check != nil:
		return nil, nil, invalid("mode %q has no checks: a port that does not answer a probe may well serve", cfg.Mode)
	}
	alg, ok := algorithmNamed(cfg.Algorithm)
	if !ok {
		return nil, nil, invalid("algorithm is %q; use one of %q", cfg.Algorithm, bunfile.Algorithms())
	}
	if cfg.SlowStart < 0 {
		return nil, nil, invalid("the time of the slow start is negative")
	}
	if problem := cmp.Or(cfg.Limits.problem(cfg.Mode), protocolProblem(cfg), tlsProblem(cfg), hashProblem(cfg)); problem != "" {
		return nil, nil, invalid("%s", problem)
	}
	if cfg.Check == nil {
		return alg, nil, nil
	}
	c := *cfg.Check
	switch {
	case c.Interval < 0 || c.Timeout < 0 || c.Rise < 0 || c.Fall < 0:
		return nil, nil, invalid("the check has a negative interval, timeout, rise or fall")
	case c.Path != "" && !validPath(c.Path):
		return nil, nil, invalid("the check's path is %q; it has to begin with a slash and be a URL path", c.Path)
	}
	if cfg.Mode != bunfile.ModeHTTP {
		c.Path = "" // means something in HTTP mode only
	}
	if c.Interval == 0 {
		c.Interval = 2 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.Rise == 0 {
		c.Rise = 1
	}
	if c.Fall == 0 {
		c.Fall = 3
	}
	return alg, &c, nil
}

// validPath reports whether s can be the target of a request line.
func validPath(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f
	})
}
