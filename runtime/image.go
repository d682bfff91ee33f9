package runtime

import (
	"context"
	"errors"
	"io"

	"github.com/budgiehq/budgie/bunfile"
)

// ErrNoBlob: an image, or a part of it, is not here. The text says which, and
// where a setting of the machine has discarded it, the setting.
var ErrNoBlob = errors.New("not in the image store")

// Descriptor names a part of an image, or the whole by its root (OCI image
// specification, descriptor.md).
type Descriptor struct {
	// MediaType says what it is.
	MediaType string `json:"mediaType"`
	// Digest is that of its bytes, as "sha256:" and 64 hexadecimal characters.
	Digest string `json:"digest"`
	// Size in bytes.
	Size int64 `json:"size"`
}

// Blob is a part of an image that is open for reading.
type Blob interface {
	io.ReaderAt
	io.Closer
	// Size in bytes.
	Size() int64
}

// ImageSource is a runtime that can hand out the images that it has. Its methods
// may be called concurrently.
type ImageSource interface {
	// Image returns the root of an image, an index or a manifest, by its name as
	// in image.docker_image or by the digest of its root. It never asks a
	// registry: what is not here gives ErrNoBlob. The manifests that an index
	// names for other platforms are usually not here.
	Image(ctx context.Context, name string) (Descriptor, error)
	// OpenBlob opens a part of an image that the runtime has, by its digest. One
	// that is not here, or belongs to no image, gives ErrNoBlob. The end of ctx
	// ends reading, too.
	OpenBlob(ctx context.Context, digest string) (Blob, error)
}

// BlobSource is a place elsewhere that parts of an image can be read from, such
// as a peer. Its methods may be called concurrently.
type BlobSource interface {
	// Name says which place it is, for people.
	Name() string
	// Open reads a part of an image from an offset in bytes on. What is not
	// there gives ErrNoBlob; any other error means that the place cannot be
	// reached, which should not take longer than a second. What is read is not
	// verified yet, and may be more than blob.Size says. The end of ctx ends
	// reading, too.
	Open(ctx context.Context, blob Descriptor, offset int64) (io.ReadCloser, error)
}

// RangeSource is a BlobSource that can read a piece of a blob and nothing
// beyond it. From several of them a single blob is read at the same time.
type RangeSource interface {
	BlobSource
	// OpenRange is Open of length bytes at most.
	OpenRange(ctx context.Context, blob Descriptor, offset, length int64) (io.ReadCloser, error)
}

// ImageSink is a runtime that can take images from others than registries.
type ImageSink interface {
	// Fetch makes an image ready to run on this machine, as Puller.Pull does, by
	// the root that its name stands for at the sources, whatever it stands for at
	// the registry: under the policies missing and always the registry is asked
	// for nothing but the parts that no source has, and under never not at all.
	// The digest it returns is root's, to be given to Create.
	//
	// The parts that are missing here come from all the sources, several at a
	// time, and one from several if they are RangeSources; from another one where
	// a source fails, at the point where that stopped. Every part is verified by
	// its digest, and the platform before a layer is fetched. What arrived before
	// a failure or the end of ctx is kept for a while, and the next Fetch or Pull
	// goes on from there. A part that nobody has, the registry included, gives
	// ErrNoBlob.
	//
	// An image that has the name here already and is another one keeps it. Then
	// what is fetched gets the name by its digest alone.
	//
	// report is as that of Pull, without PullResolving.
	Fetch(ctx context.Context, image bunfile.Image, root Descriptor, from []BlobSource, report func(PullProgress)) (digest string, err error)
}
