package peer

import (
	"net/netip"
	"time"
)

// What the tests of the package from outside need of its inside.
type Limits = limits

var (
	WithLimits    = withLimits
	DefaultLimits = defaultLimits
)

var ALPNVolume, ALPNPort = volumeStream.alpn, portStream.alpn

const (
	ALPN        = alpn
	Quiet       = quiet
	MaxList     = maxList
	MaxSpec     = maxSpec
	MaxManifest = maxManifest
	MaxPath     = maxPath
	MaxHeader   = maxHeader
	Silence     = silence
	Heartbeat   = heartbeat
)

// SetPending and the others change one limit.
func (l *limits) SetPending(all, each int)  { l.pending, l.pendingPerAddr = all, each }
func (l *limits) SetConns(all, each int)    { l.conns, l.connsPerAddr = all, each }
func (l *limits) SetRequests(all, each int) { l.requests, l.requestsPerNode = all, each }
func (l *limits) SetVolumes(all, each int)  { l.volumes, l.volumesPerNode = all, each }
func (l *limits) SetPorts(all, each int)    { l.ports, l.portsPerNode = all, each }
func (l *limits) SetMute(d time.Duration)   { l.mute = d }
func (l limits) Pending() (int, int)        { return l.pending, l.pendingPerAddr }

// Counts returns what a Server has under way.
func (s *Server) Counts() (handshakes, conns, requests int) {
	s.mu.Lock()
	for g := range s.gates {
		handshakes += len(g.slots)
	}
	s.mu.Unlock()
	return handshakes, s.conns.count(), s.requests.count()
}

func (q *quota[K]) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// Volumes returns how many volumes a Server sends.
func (s *Server) Volumes() int { return s.streams[ALPNVolume].slots.count() }

// Ports returns how many connections to ports a Server passes on.
func (s *Server) Ports() int { return s.streams[ALPNPort].slots.count() }

// Datagrams returns how many streams of datagrams a Server has.
func (s *Server) Datagrams() int { return s.streams[datagramStream.alpn].slots.count() }

// AddrsOf returns what a Client would try.
func AddrsOf(c *Client) []netip.AddrPort { return c.addrs }
