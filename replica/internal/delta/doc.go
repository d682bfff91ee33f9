// Package delta computes how a file's content came out of an earlier one.
//
// A [Builder] cuts content into chunks whose borders depend on the content
// around them alone, so that an insertion moves borders instead of changing
// every chunk behind it. What comes out is a [List]: the length and the hash of
// every chunk. [Plan] compares the lists of two contents and says, in
// [Op]s, how the new one is put together from ranges of the old one and
// literal bytes; a [Checker] keeps the side that has the old one from doing what
// no plan says.
//
// Only the side that makes plans needs lists. A [Memory] keeps those of
// contents that were sent, by digest: who names the digest of what it has gets
// a plan without reading its file, and without a round trip.
//
// A plan says nothing about whether its old content is what the receiver
// really has. The whole of what comes out must be compared with the digest of the
// new content, and sent anew without a plan where it differs.
//
// The package does no I/O of its own, starts no goroutines, and depends on
// nothing but the standard library.
package delta

import "errors"

// Errors of this package.
var (
	// ErrInvalid: an encoded list, an encoded operation, or what a Checker is asked
	// about breaks the rules. Whoever sent them is broken or hostile.
	ErrInvalid = errors.New("invalid delta")
	// ErrTooManyChunks: the content is cut into more than MaxChunks chunks, which
	// only happens if it is much larger than its class, or made to be cut so.
	// Send it whole.
	ErrTooManyChunks = errors.New("content has too many chunks for a chunk list")
)
