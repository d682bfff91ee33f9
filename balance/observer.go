package balance

import (
	"net"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// Observer is told what happens at frontends, for metrics and access logs. Its
// methods are called concurrently, in the way of traffic: they must not block,
// nor call the frontend but for [Source.Snapshot].
type Observer interface {
	// Opened is called when a frontend begins to serve, before anything else of
	// it.
	Opened(s *Source)
	// Ended is called after each request, in ModeTCP after each connection, in
	// ModeUDP after each session.
	Ended(s *Source, e Exchange)
	// Changed is called after a change of a backend. Those of a frontend follow
	// each other, in their order.
	Changed(s *Source, c BackendChange)
	// Closed is called when a frontend has ended. Ended may still follow for
	// requests over HTTP/2 that were cut off at that moment.
	Closed(s *Source)
}

// Source is the frontend that an observer is told of. There is one per frontend;
// its pointer identifies it.
type Source struct {
	// Name is the service's, as in Config.
	Name string
	// Mode is ModeHTTP, ModeTCP or ModeUDP.
	Mode bunfile.BalanceMode
	// Addr is where the frontend listens.
	Addr net.Addr

	snapshot func() Snapshot
}

// Snapshot returns the state of the frontend now. It may be called at any time,
// concurrently, also after Closed.
func (s *Source) Snapshot() Snapshot { return s.snapshot() }

// Snapshot is the state of a frontend at one moment.
type Snapshot struct {
	// Connections are those of clients that are open (sessions in ModeUDP).
	Connections int
	// Accepted counts the connections (sessions) of clients since the beginning.
	Accepted uint64
	// Refused counts the connections that were reset because of a limit on
	// connections, in ModeUDP the datagrams that no backend could take.
	Refused uint64
	// Waiting is the number of requests in the queue for a backend with room.
	Waiting int
	// Backends are as Frontend.Status has them.
	Backends []BackendStatus
}

// Cause says why a request did not get its whole answer from a backend. The words
// that RFC 9209 section 2.3 has are used as it does.
type Cause string

// The causes.
const (
	// CauseNone: it went well, as far as this proxy can tell. Answers of 500 and
	// above that are the backend's own have it, too.
	CauseNone Cause = ""
	// CauseUnavailable: there is no backend.
	CauseUnavailable Cause = destinationUnavailable
	// CauseRefused: none could be reached.
	CauseRefused Cause = connectionRefused
	// CauseLimit: it was shed, since the backends are at their limits.
	CauseLimit Cause = connectionLimitReached
	// CauseTerminated: the connection to a backend ended before its answer.
	CauseTerminated Cause = connectionTerminated
	// CauseProtocol: what a backend sent is not HTTP.
	CauseProtocol Cause = httpProtocolError
	// CauseTimeout: a backend did not answer in time.
	CauseTimeout Cause = httpResponseTimeout
	// CauseIncomplete: a backend broke its answer off.
	CauseIncomplete Cause = "http_response_incomplete"
	// CauseRequest: the request is not valid, too large, or its body did not come.
	CauseRequest Cause = httpRequestError
	// CauseClient: the client left before the end. It is no word of RFC 9209.
	CauseClient Cause = "client_gone"
	// CauseCutOff: the frontend was shut down, and the time for what was under way
	// was over; in ModeUDP also: the session made room for another. It is no word
	// of RFC 9209.
	CauseCutOff Cause = "cut_off"
)

// Exchange is a request, a connection in ModeTCP or a session in ModeUDP that has
// ended. Fields of HTTP are empty in the other modes. What clients send is as they
// sent it: it may hold anything but control characters.
type Exchange struct {
	// Backend answered, or was tried last where Cause says that it failed; the
	// zero value where none was. Its weight is not told.
	Backend Backend
	// Client is the address of the client, host:port.
	Client string
	// Protocol is "HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "TCP" or "UDP".
	Protocol string
	// GRPC: it was a call by gRPC.
	GRPC bool
	// Method, Host, Target, UserAgent and Referer are the request's. Target is what
	// the request line has, or :path.
	Method, Host, Target, UserAgent, Referer string
	// Status is the final status that the client got; 101 after a switch of
	// protocols, 0 where it got none.
	Status int
	// GRPCStatus is the code of the status of a call, -1 where there is none.
	GRPCStatus int
	// Received and Sent are the bytes of bodies that came from the client and went
	// to it; all bytes after a switch of protocols and in ModeTCP, those of the
	// datagrams in ModeUDP.
	Received, Sent int64
	// Began is when the header was there, or the connection or first datagram.
	Began time.Time
	// Duration is the time from Began to the end.
	Duration time.Duration
	// FirstByte is the time from Began to the header of the response, in ModeTCP
	// until the connection to the backend was made, in ModeUDP until the first
	// answer; 0 where there was none.
	FirstByte time.Duration
	// Attempts is how many times it was sent to a backend, or tried to: 1 where all
	// went well, 0 where there was no backend to try.
	Attempts int
	// Cause is why it failed, and Err what is known of that; nil without one.
	Cause Cause
	Err   error
}

// Shed reports whether it was turned away because the backends had enough to do.
func (e Exchange) Shed() bool { return e.Cause == CauseLimit }

// Retries is how many attempts followed the first one.
func (e Exchange) Retries() int { return max(e.Attempts-1, 0) }

// ChangeKind says what happened to a backend.
type ChangeKind string

// What happens to backends.
const (
	// Joined and Left: by Update.
	Joined ChangeKind = "joined"
	Left   ChangeKind = "left"
	// WentOut and CameBack: out of rotation and back into it.
	WentOut  ChangeKind = "out"
	CameBack ChangeKind = "back"
)

// BackendChange is a change of a backend.
type BackendChange struct {
	Backend Backend
	Kind    ChangeKind
	// Err is what took it out; nil for other changes.
	Err error
	// For is for how long traffic took it out, 0 where its checks did. The end of
	// that time is no change: CameBack follows when it has served, or a probe found
	// it well.
	For time.Duration
}

// Observers returns an observer that tells each of the given ones, in their
// order. Those that are nil are left out; where none is left it is nil.
func Observers(all ...Observer) Observer {
	var some several
	for _, o := range all {
		if o != nil {
			some = append(some, o)
		}
	}
	switch len(some) {
	case 0:
		return nil
	case 1:
		return some[0]
	}
	return some
}

type several []Observer

func (s several) Opened(src *Source) {
	for _, o := range s {
		o.Opened(src)
	}
}

func (s several) Ended(src *Source, e Exchange) {
	for _, o := range s {
		o.Ended(src, e)
	}
}

func (s several) Changed(src *Source, c BackendChange) {
	for _, o := range s {
		o.Changed(src, c)
	}
}

func (s several) Closed(src *Source) {
	for _, o := range s {
		o.Closed(src)
	}
}

// witness is an observer with the source that it is told of. A nil one sees
// nothing.
type witness struct {
	Observer
	source *Source
}

// newWitness returns the witness of a frontend, nil without an observer.
func newWitness(cfg Config, addr func() net.Addr, snapshot func() Snapshot) *witness {
	if cfg.Observer == nil {
		return nil
	}
	w := &witness{cfg.Observer, &Source{Name: cfg.Name, Mode: cfg.Mode, Addr: addr(), snapshot: snapshot}}
	w.Opened(w.source)
	return w
}

func (w *witness) closed() {
	if w != nil {
		w.Closed(w.source)
	}
}
