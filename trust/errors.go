package trust

import (
	"errors"
	"net"
)

// Errors of handshakes. Each refusal of the other side's certificate is an
// ErrNotTrusted, and one of the others that says why.
var (
	// ErrNotTrusted: the other side did not prove that it is the node that it
	// should be.
	ErrNotTrusted = errors.New("not trusted")
	// ErrWrongFlock: its certificate names another flock: the tokens differ.
	ErrWrongFlock = errors.New("wrong flock")
	// ErrWrongNode: it is of the flock, but not the node that was expected.
	ErrWrongNode = errors.New("wrong node")
	// ErrExpired: its certificate has expired, by more than [MaxSkew].
	ErrExpired = errors.New("certificate expired")
	// ErrClock: its certificate is of the future, by more than [MaxSkew]: one
	// of the two clocks is wrong.
	ErrClock = errors.New("clocks differ too much")
	// ErrRefused: the other side refused this node. Only it knows why.
	ErrRefused = errors.New("refused by the other machine")
)

// Errors of a machine's own token and identity.
var (
	// ErrUnusable: a file with a secret is damaged, gone, not a regular file,
	// or not private to its owner.
	ErrUnusable = errors.New("cannot be used")
	// ErrFixed: the token was given to the program, and cannot be changed here.
	ErrFixed = errors.New("the token is fixed")
	// ErrClosed: the Flock is closed.
	ErrClosed = errors.New("flock is closed")
)

// refusal is why the other side is not trusted. It is an ErrNotTrusted, and its
// kind.
type refusal struct {
	kind error
	text string
}

func refuse(kind error, text string) error { return &refusal{kind, text} }

// Error implements error.
func (r *refusal) Error() string { return r.text }

// Unwrap returns what the refusal is.
func (r *refusal) Unwrap() []error { return []error{ErrNotTrusted, r.kind} }

// refusedError is the other side's refusal of this one.
type refusedError struct{ err error }

// Error implements error.
func (e *refusedError) Error() string {
	return "the other machine refused this one (" + e.err.Error() + "): compare \"budgie token -id\" and the time of day on both; its log may say more"
}

// Unwrap returns what the error is, and what it came from.
func (e *refusedError) Unwrap() []error { return []error{ErrRefused, e.err} }

// Explain returns err as an ErrRefused if it says that the other side ended the
// TLS connection with an alert, and err itself otherwise. In TLS 1.3 a client's
// handshake is over before the server has looked at its certificate, so a
// refusal is the error of the first read, and not of the handshake.
func Explain(err error) error {
	// What crypto/tls makes of an alert that it received.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && !errors.Is(err, ErrRefused) {
		return &refusedError{err}
	}
	return err
}
