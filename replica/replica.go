// Package replica copies the volumes of a service from the node that owns
// them to the nodes that join it, over a connection that the caller made and
// trusts.
package replica

import "errors"

// Errors of this package.
var (
	// ErrProtocol: the other side sent what the protocol does not allow.
	ErrProtocol = errors.New("volume sync protocol violation")
	// ErrVersion: the other side speaks a protocol version that this one does
	// not.
	ErrVersion = errors.New("volume sync protocol version not supported")
	// ErrChanged: the source changed while it was read, again and again.
	ErrChanged = errors.New("source keeps changing while it is read")
	// ErrVerify: what arrived is not what the sender has.
	ErrVerify = errors.New("copy differs from its source")
)

// Report says what a finished copy consisted of.
type Report struct {
	// Files is the number of files, directories and links in the volume.
	Files int
	// Bytes is the size of all files together.
	Bytes int64
	// Transferred is the number of file bytes that had to be sent.
	Transferred int64
	// Removed is the number of entries that were removed from the copy.
	Removed int
	// Skipped names special files (sockets, devices, pipes), which are not
	// copied.
	Skipped []string
	// Digest identifies the volume's content: both sides have computed it
	// independently.
	Digest string
}
