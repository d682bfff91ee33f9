// Package handover passes sockets from one process to another of the same user, so
// that a port is served on without a moment in which nobody listens.
//
// A process that has something to give serves a unix socket in a directory that is
// private to its user. A successor asks there ([Ask]), and has the giver let go of
// everything but serving, when it gets copies of the sockets ([Offered.Release]). It
// makes itself accept, and says so ([Offered.Serve]): only then does the giver stop
// accepting. A successor that fails or dies before that has changed
// nothing: the giver goes on. Both sides check that the other is a process of the same
// user (SO_PEERCRED, unix(7)), and that it speaks the same version of the protocol.
//
// It works on Linux; elsewhere the errors are errors.ErrUnsupported.
package handover

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// Version is that of the protocol. Processes of different versions do not hand over.
const Version = 1

// Errors of this package.
var (
	// ErrNone: no process gives what was asked for.
	ErrNone = errors.New("no process hands it over")
	// ErrRefused: the other process is another user's, speaks another version, or
	// cannot hand over now; the text says which.
	ErrRefused = errors.New("the hand-over was refused")
)

// Giver is a process that has something to give. Its methods may be called
// concurrently.
type Giver interface {
	// Offer returns what it has of what is wanted. ErrNone says that it is not this
	// one's, and any other error is told to who asks.
	Offer(want string) (Offer, error)
	// Upgrade starts a successor for all that this process has, and returns what to
	// tell of it when that serves, or why it does not.
	Upgrade(ctx context.Context) (string, error)
}

// Offer is what a Giver gives to one successor. Its methods are called one after the
// other, Done or Abort as the last one.
type Offer interface {
	// Busy reports whether requests are served well: the successor should not accept
	// before it can do as much.
	Busy() bool
	// Release lets go of everything but serving, for a successor of the given name, and
	// returns the sockets of which that gets copies. After an error nothing is changed.
	Release(ctx context.Context, to string) ([]Socket, error)
	// Done is called when the successor serves, and stops accepting before it returns.
	Done()
	// Abort undoes Release, where that was called and did not fail: the successor has
	// failed.
	Abort()
}

// Socket is a socket with a name by which the other process knows it.
type Socket struct {
	Name string
	// Conn is the giver's: a *net.TCPListener or a *net.UDPConn.
	Conn syscall.Conn
	// Listener or PacketConn is the successor's, which is another one for the same
	// socket.
	Listener   net.Listener
	PacketConn net.PacketConn
}

// Close closes a successor's socket; the giver's stays open.
func (s Socket) Close() {
	if s.Listener != nil {
		_ = s.Listener.Close()
	}
	if s.PacketConn != nil {
		_ = s.PacketConn.Close()
	}
}

// What one message may have.
const (
	maxSockets = 64 // the kernel lets 253 pass at once
	maxMessage = 64 << 10
)

// The questions of a successor.
const (
	doOffer   = "offer"
	doRelease = "release"
	doServe   = "serve"
	doUpgrade = "upgrade"
)

// message is what either side says. Sockets come along with their names.
type message struct {
	Version int      `json:"version"`
	Do      string   `json:"do,omitempty"`
	Want    string   `json:"want,omitempty"`  // of an offer
	To      string   `json:"to,omitempty"`    // of a release
	Names   []string `json:"names,omitempty"` // of the sockets in this message
	More    bool     `json:"more,omitempty"`  // another message with sockets follows
	Busy    bool     `json:"busy,omitempty"`
	None    bool     `json:"none,omitempty"`
	Text    string   `json:"text,omitempty"`
	Error   string   `json:"error,omitempty"`
}
