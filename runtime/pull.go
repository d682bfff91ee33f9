package runtime

import (
	"context"

	"github.com/budgiehq/budgie/bunfile"
)

// Puller is a runtime that runs images, and can fetch them before there is a
// container.
type Puller interface {
	// Pull makes an image ready to run on this machine, as image.Pull says, and
	// returns the digest of what the name stands for, to be given to Create as
	// Config.ImageDigest. It uses the caller's credentials for registries. report,
	// which may be nil, is told how it goes on, by one call at a time; it must
	// not block. What was fetched before a failure or the end of ctx is kept for
	// a while, and the next Pull goes on from there.
	Pull(ctx context.Context, image bunfile.Image, report func(PullProgress)) (digest string, err error)
}

// PullStep is how far a pull has come.
type PullStep string

// The steps, in the order in which a pull that fetches something takes them.
// One that fetches nothing reports only PullPresent.
const (
	// PullPresent: the image is on this machine, and nothing is fetched.
	PullPresent PullStep = "present"
	// PullResolving: the registry is asked what the name stands for.
	PullResolving PullStep = "resolving"
	// PullFetching: a part of the image, Blob, is being fetched.
	PullFetching PullStep = "fetching"
	// PullFetched: Blob is there, fetched now or before.
	PullFetched PullStep = "fetched"
	// PullRetrying: the transfer broke off and goes on from where it was. Err
	// says why it broke off.
	PullRetrying PullStep = "retrying"
	// PullUnpacking: everything is there, and becomes a file system.
	PullUnpacking PullStep = "unpacking"
	// PullDone: the image is ready.
	PullDone PullStep = "done"
)

// PullProgress is an event of a pull.
type PullProgress struct {
	// Image is the image's full name.
	Image string
	Step  PullStep
	// Blob is the digest of the part that a step is about, empty for steps of
	// the whole image. Only layers are reported: the rest is small.
	Blob string
	// Offset is how many bytes of Blob are there, of Total in all.
	Offset, Total int64
	// Err is why a transfer is retried; nil elsewhere.
	Err error
}
