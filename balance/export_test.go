package balance

import (
	"net"
	"net/netip"
	"time"
)

// WithStall shortens the time that a body may stand still.
func WithStall(d time.Duration) Option { return func(p *Proxy) { p.limits.stall = d } }

// WithHeaderTimeout shortens the time that a request header may take.
func WithHeaderTimeout(d time.Duration) Option { return func(p *Proxy) { p.limits.header = d } }

// WithHalfOpen shortens the silence that a half-closed TCP connection may keep.
func WithHalfOpen(d time.Duration) Option { return func(p *Proxy) { p.limits.halfOpen = d } }

// WithIdleQuiet changes how long a drain leaves an idle connection open.
func WithIdleQuiet(d time.Duration) Option { return func(p *Proxy) { p.limits.idleQuiet = d } }

// WithUDPDial replaces the opening of sockets to backends.
func WithUDPDial(dial func(netip.AddrPort) (net.Conn, error)) Option {
	return func(p *Proxy) { p.dialUDP = dial }
}
