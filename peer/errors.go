package peer

import "errors"

// Errors of this package, besides those of package trust, which say that the
// other side is not who it should be, or refused this node.
var (
	// ErrNotFound: the node does not have what was asked for. An image, or a part
	// of one, that is not there is a runtime.ErrNoBlob too.
	ErrNotFound = errors.New("not found on the peer")
	// ErrUnreachable: none of the node's addresses answered.
	ErrUnreachable = errors.New("peer cannot be reached")
	// ErrRefused: the node understood the request and refuses it. The text says
	// why.
	ErrRefused = errors.New("refused by the peer")
	// ErrBusy: the node serves as many requests at the moment as it takes. Later it
	// may have room. Connections that are too many are closed without a word.
	ErrBusy = errors.New("peer is busy")
	// ErrInvalid: what the node sent breaks the protocol, or one of its limits.
	ErrInvalid = errors.New("invalid answer of the peer")
	// ErrSilent: nothing was heard of the node for so long that it counts as
	// gone.
	ErrSilent = errors.New("peer is silent")
	// ErrSentAway: the node ended in order what it told of itself. It closes, or
	// another process takes its place at the same address, which tells when asked.
	ErrSentAway = errors.New("peer sends away who watches it")
	// ErrClosed: the Client or the Server is closed.
	ErrClosed = errors.New("closed")
)
