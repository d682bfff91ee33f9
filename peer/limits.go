package peer

import (
	"net"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// What one message may hold, on both sides.
const (
	// maxList is the size of a list of containers, or of a line of events, in
	// bytes, and mostContainers how many are in it: many times what one host
	// runs.
	maxList        = 1 << 20
	mostContainers = 4096
	// mostEndpoints is how many ports a container may publish.
	mostEndpoints = 256
	// maxSpec is the size of a specification.
	maxSpec = bunfile.MaxSize
	// maxManifest is the size of a manifest, what the OCI distribution
	// specification asks every registry to take at least.
	maxManifest = 4 << 20
	// maxError is how much of an error's JSON is read, and maxText how many
	// characters of its text are shown.
	maxError = 8 << 10
	maxText  = 512
	// maxHeader is the size of a request's or an answer's header.
	maxHeader = 16 << 10
	// maxPath is the length of a path: /v2/, a name of 255 characters, a
	// digest, and what is between.
	maxPath = 512
	// maxQuery is the length of a query.
	maxQuery = 512
	// maxName is the length of an image's repository without the registry, and
	// maxReference of its whole reference.
	maxName      = 255
	maxReference = 512
)

// Times of a node's sign of life.
const (
	heartbeat = 2 * time.Second
	// silence is how long nothing may be heard. With the time to notice that a
	// new connection cannot be made it stays below 10 s.
	silence = 6 * time.Second
)

// limits bound what a Server does for others.
type limits struct {
	// handshake is how long a handshake may take.
	handshake time.Duration
	// farewell is how long a refused client has to read why.
	farewell time.Duration
	// pending is how many handshakes are under way at a time, in all and per
	// address. A new one takes the place of the oldest.
	pending, pendingPerAddr int
	// conns is how many connections there are after the handshake, in all and
	// per address. A new one beyond is closed.
	conns, connsPerAddr int
	// requests is how many requests are served at a time, in all and per node;
	// those beyond are refused.
	requests, requestsPerNode int
	// volumes is how many volumes are sent at a time, in all and per node; more
	// are refused. Each may make the node read all files of a volume.
	volumes, volumesPerNode int
	// ports is how many connections to ports are passed on at a time, in all and
	// per node; more are refused.
	ports, portsPerNode int
	// datagrams is how many streams of datagrams there are at a time, in all and per
	// node, more are refused; and mute how long nothing may come on one from either
	// side.
	datagrams, datagramsPerNode int
	mute                        time.Duration
	// quiet is how long nothing of a volume may come, or be taken. The other
	// side may have a whole volume to read meanwhile.
	quiet time.Duration
	// streams is how many requests a connection may have open.
	streams int
	// write is how long the other side may take for the next piece of an
	// answer, at most writeSize bytes.
	write time.Duration
	// answer is how long the Node may take for a list or a specification.
	answer time.Duration
	// idle is after what time a connection without requests is closed.
	idle time.Duration
	// ping is after what silence a connection is tested, and how long the
	// answer may take.
	ping time.Duration
}

// quiet is how long one side of a volume's transfer may hear nothing of the
// other: while a side reads through its files, it is silent. That the other
// machine is gone shows earlier, by keepAlive.
const quiet = 15 * time.Minute

// keepAlive lets the operating system notice within 20 s that the other machine
// is gone, on connections where nothing is under way.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}

// writeSize is the buffer of each blob that is read by a peer, in bytes.
const writeSize = 64 << 10

func defaultLimits() limits {
	return limits{
		handshake: 5 * time.Second, farewell: 500 * time.Millisecond,
		pending: 128, pendingPerAddr: 32,
		conns: 512, connsPerAddr: 64,
		requests: 1024, requestsPerNode: 128,
		volumes: 256, volumesPerNode: 32, quiet: quiet,
		ports: 8192, portsPerNode: 2048,
		datagrams: 8192, datagramsPerNode: 2048, mute: 5 * time.Minute,
		streams: 64,
		write:   10 * time.Second, answer: 5 * time.Second,
		idle: 2 * time.Minute, ping: 15 * time.Second,
	}
}

// Times of a Client.
const (
	// stagger is how long an address has before the next one is tried beside it.
	// RFC 8305 section 5 recommends 250 ms, for the Internet.
	stagger = 40 * time.Millisecond
	// dialTimeout is how long the addresses may take together until one of them
	// accepts a connection: under a second, as a host on the same network takes a
	// few milliseconds. It must be more than mostAddrs times stagger, or the last
	// would not be tried.
	dialTimeout = 800 * time.Millisecond
	// proveTimeout is how long the handshake may take, and the first answer.
	proveTimeout = 4 * time.Second
	// answerTimeout is how long a small answer may take as a whole.
	answerTimeout = 15 * time.Second
	// stallTimeout is how long nothing of an answer may arrive.
	stallTimeout = 15 * time.Second
	// pingAfter and pingTimeout are as limits.ping, for the client.
	pingAfter   = 4 * time.Second
	pingTimeout = 4 * time.Second
	// goodbye is how long the last word on a connection may take.
	goodbye = 500 * time.Millisecond
	// mostPortDials is how many connections to ports of one node are made at a
	// time: fewer than the handshakes that it has under way with one address.
	mostPortDials = 16
	// mostAddrs is how many addresses of a node are tried.
	mostAddrs = 16
)
