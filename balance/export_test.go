package balance

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// WithStall shortens the time that a body may stand still.
func WithStall(d time.Duration) Option { return func(p *Proxy) { p.limits.stall = d } }

// WithHeaderTimeout shortens the time that a request header may take.
func WithHeaderTimeout(d time.Duration) Option { return func(p *Proxy) { p.limits.header = d } }

// WithKeepAlive shortens the time that a client's connection may be idle.
func WithKeepAlive(d time.Duration) Option { return func(p *Proxy) { p.limits.keepAlive = d } }

// WithHalfOpen shortens the silence that a half-closed TCP connection may keep.
func WithHalfOpen(d time.Duration) Option { return func(p *Proxy) { p.limits.halfOpen = d } }

// WithIdleQuiet changes how long a drain leaves an idle connection open.
func WithIdleQuiet(d time.Duration) Option { return func(p *Proxy) { p.limits.idleQuiet = d } }

// WithUDPDial replaces the opening of sockets to backends.
func WithUDPDial(dial func(netip.AddrPort) (net.Conn, error)) Option {
	return func(p *Proxy) { p.dialUDP = dial }
}

// WithoutFastPath lets all of HTTP take the full path.
func WithoutFastPath() Option { return func(p *Proxy) { p.limits.noFast = true } }

// Latencies returns what the pool of a frontend takes its backends' latencies
// for, in seconds, -1 where it does not know; and checks that nothing is awaited.
func Latencies(t testing.TB, f Frontend) []float64 {
	t.Helper()
	var p *pool
	switch f := f.(type) {
	case *frontend:
		p = f.pool
	case *udpFrontend:
		p = f.pool
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []float64
	for _, m := range p.members {
		if m.latency.waiting != 0 {
			t.Errorf("%s is awaited %d times", m.backend.ID, m.latency.waiting)
		}
		l := -1.0
		if m.latency.known {
			l = m.latency.seconds
		}
		all = append(all, l)
	}
	return all
}
