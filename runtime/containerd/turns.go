//go:build linux

package containerd

import (
	"context"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// gatheredLayers is how many layers are fetched from others at the same time.
// One comes from all of them at once; a second one fills the gaps while the first
// begins and ends. More would only make the lowest one, with which unpacking
// begins, arrive later.
const gatheredLayers = 2

// turns lets the layers of an image begin in the order in which they are
// unpacked, so many at a time: while one is unpacked, others still arrive. Its
// methods may be called concurrently.
type turns struct {
	places chan struct{}

	mu sync.Mutex
	// before is closed when the layer below has begun; begun when this one has.
	before, begun map[digest.Digest]chan struct{}
}

func newTurns(places int) *turns { return &turns{places: make(chan struct{}, places)} }

// expect takes note of the layers of a manifest, the lowest one first. What was
// expected before is forgotten, and nobody waits for it any more.
func (t *turns) expect(children []ocispec.Descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, begun := range t.begun {
		closeOnce(begun)
	}
	t.before, t.begun = map[digest.Digest]chan struct{}{}, map[digest.Digest]chan struct{}{}
	below := make(chan struct{})
	close(below)
	for _, d := range children {
		if images.IsLayerType(d.MediaType) && t.begun[d.Digest] == nil {
			t.before[d.Digest], t.begun[d.Digest] = below, make(chan struct{})
			below = t.begun[d.Digest]
		}
	}
}

// begin waits for the turn of a layer, and for a free place. One that nobody
// expects has its turn at once. done is to be called when it has been fetched.
func (t *turns) begin(ctx context.Context, layer digest.Digest) (done func(), _ error) {
	t.mu.Lock()
	before, begun := t.before[layer], t.begun[layer]
	t.mu.Unlock()
	if begun != nil {
		select {
		case <-before:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	select {
	case t.places <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if begun != nil {
		closeOnce(begun) // the manifest may name it twice
	}
	return func() { <-t.places }, nil
}

// closeOnce closes what may be closed. The caller holds the lock under which all
// do so.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}
