//go:build linux

package containerd

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// reporter turns what is seen of a pull into events. All of its methods may be
// called concurrently.
type reporter struct {
	image string

	mu     sync.Mutex
	report func(runtime.PullProgress)
	// sum is how many bytes of all layers are there, and furthest the most that
	// it ever was: a transfer that begins anew brings nothing until it is beyond.
	sum, furthest int64
	layers        map[string]*layer // by digest
}

// layer is a part of an image of which progress is reported.
type layer struct {
	offset, total int64
	done          bool
}

func newReporter(image string, report func(runtime.PullProgress)) *reporter {
	if report == nil {
		report = func(runtime.PullProgress) {}
	}
	return &reporter{image: image, report: report, layers: map[string]*layer{}}
}

// tell reports an event. The caller holds the lock.
func (p *reporter) tell(e runtime.PullProgress) {
	e.Image = p.image
	p.report(e)
}

func (p *reporter) step(e runtime.PullProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell(e)
}

func (p *reporter) resolving() { p.step(runtime.PullProgress{Step: runtime.PullResolving}) }
func (p *reporter) retrying(err error) {
	p.step(runtime.PullProgress{Step: runtime.PullRetrying, Err: err})
}

// reached returns how many bytes of the layers were ever there.
func (p *reporter) reached() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.furthest
}

// set takes note of how much of a layer is there. The caller holds the lock.
func (p *reporter) set(l *layer, offset int64) {
	offset = min(offset, l.total)
	p.sum += offset - l.offset
	l.offset = offset
	p.furthest = max(p.furthest, p.sum)
}

// read takes note of bytes that arrived as the answer to a request, or to one
// that a registry redirected.
func (p *reporter) read(req *http.Request, n int) {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	_, digest, blob := cutLast(req.URL.Path, "/blobs/")
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.layers[digest]
	if !blob || l == nil || l.done {
		return
	}
	p.set(l, l.offset+int64(n))
	p.tell(runtime.PullProgress{Step: runtime.PullFetching, Blob: digest, Offset: l.offset, Total: l.total})
}

// arrived takes note of how much of a layer is there.
func (p *reporter) arrived(digest string, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.layers[digest]
	if l == nil || l.done {
		return
	}
	p.set(l, offset)
	p.tell(runtime.PullProgress{Step: runtime.PullFetching, Blob: digest, Offset: l.offset, Total: l.total})
}

// handler reports the layers that pass through next.
func (p *reporter) handler(store content.IngestManager, next images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if images.IsLayerType(desc.MediaType) {
			p.begin(ctx, store, desc)
		}
		children, err := next.Handle(ctx, desc)
		switch {
		case err != nil:
		case images.IsManifestType(desc.MediaType):
			p.expect(children)
		case images.IsLayerType(desc.MediaType):
			p.end(desc)
		}
		return children, err
	})
}

// expect takes note of all layers of the image.
func (p *reporter) expect(children []ocispec.Descriptor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range children {
		if id := d.Digest.String(); images.IsLayerType(d.MediaType) && p.layers[id] == nil {
			p.layers[id] = &layer{total: d.Size}
			p.tell(runtime.PullProgress{Step: runtime.PullFetching, Blob: id, Total: d.Size})
		}
	}
}

// begin sees how much of a layer an earlier attempt left.
func (p *reporter) begin(ctx context.Context, store content.IngestManager, desc ocispec.Descriptor) {
	status, err := store.Status(ctx, remotes.MakeRefKey(ctx, desc))
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.layers[desc.Digest.String()]
	if l == nil || l.done {
		return
	}
	if err != nil {
		status.Offset = 0
	}
	p.set(l, status.Offset)
	p.tell(runtime.PullProgress{Step: runtime.PullFetching, Blob: desc.Digest.String(), Offset: l.offset, Total: l.total})
}

// end takes note of a layer that is there.
func (p *reporter) end(desc ocispec.Descriptor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.layers[desc.Digest.String()]
	if l == nil || l.done {
		return
	}
	p.set(l, l.total)
	l.done = true
	p.tell(runtime.PullProgress{Step: runtime.PullFetched, Blob: desc.Digest.String(), Offset: l.total, Total: l.total})
	for _, l := range p.layers {
		if !l.done {
			return
		}
	}
	p.tell(runtime.PullProgress{Step: runtime.PullUnpacking})
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
