//go:build linux

package containerd

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// readAhead is how much of a blob is read at a time, however small the pieces
	// are in which it is asked for: each time costs a call to containerd.
	readAhead = 1 << 20
	// mostOwners bounds how many blobs are remembered to belong to images.
	mostOwners = 4096
	// discardSetting is what makes containerd forget layers (containerd issue 9225).
	discardSetting = "discard_unpacked_layers"
)

// Image returns the root of an image of the namespace: see [runtime.ImageSource].
func (r *Runtime) Image(ctx context.Context, name string) (runtime.Descriptor, error) {
	ctx, done, err := r.enter(ctx, "image", "")
	if err != nil {
		return runtime.Descriptor{}, err
	}
	img, err := r.findImage(ctx, name)
	return runtime.Descriptor{MediaType: img.Target.MediaType, Digest: img.Target.Digest.String(), Size: img.Target.Size}, done(err)
}

// findImage finds an image by its name or the digest of its root.
func (r *Runtime) findImage(ctx context.Context, name string) (images.Image, error) {
	id, err := digest.Parse(name)
	if err != nil {
		if name, err = normalise(name); err != nil {
			return images.Image{}, err
		}
		id = digestOf(name)
	}
	c, err := r.client(ctx)
	if err != nil {
		return images.Image{}, err
	}
	if string(id) != name {
		img, err := c.ImageService().Get(ctx, name)
		if !errdefs.IsNotFound(err) {
			return img, err
		}
	}
	if id != "" {
		found, err := c.ImageService().List(ctx, "target.digest=="+id.String())
		if err != nil || len(found) > 0 {
			return append(found, images.Image{})[0], err
		}
	}
	return images.Image{}, fmt.Errorf("image %s is %w of namespace %s", name, runtime.ErrNoBlob, r.namespace)
}

// digestOf returns the digest in a full name, empty where there is none.
func digestOf(name string) digest.Digest {
	ref, err := reference.ParseNormalizedNamed(name)
	if d, ok := ref.(reference.Digested); err == nil && ok {
		return d.Digest()
	}
	return ""
}

// OpenBlob opens a part of an image of the namespace: see [runtime.ImageSource].
// What an image does not refer to in a way that keeps it in containerd belongs
// to none.
func (r *Runtime) OpenBlob(ctx context.Context, id string) (runtime.Blob, error) {
	caller := ctx
	ctx, done, err := r.enter(ctx, "open blob", "")
	if err != nil {
		return nil, err
	}
	blob, err := r.openBlob(ctx, caller, id)
	if err != nil {
		return nil, done(err)
	}
	return blob, done(nil)
}

func (r *Runtime) openBlob(ctx, caller context.Context, id string) (runtime.Blob, error) {
	d, err := digest.Parse(id)
	if err != nil {
		return nil, fmt.Errorf("digest %q: %w", id, err)
	}
	c, err := r.client(ctx)
	if err != nil {
		return nil, err
	}
	owned, err := r.owned(ctx, c, d)
	if err != nil {
		return nil, err
	}
	if !owned {
		return nil, r.whyNoBlob(ctx, c, d)
	}
	blob, err := r.readable(ctx, caller, c, d)
	if errdefs.IsNotFound(err) {
		return nil, r.whyNoBlob(ctx, c, d)
	}
	return blob, err
}

// readable opens a blob: its file, or where that cannot be had, by way of
// containerd. It is read after this call, and as long as the caller's ctx lasts.
func (r *Runtime) readable(ctx, caller context.Context, c *client.Client, d digest.Digest) (runtime.Blob, error) {
	info, err := c.ContentStore().Info(ctx, d)
	if err != nil {
		return nil, err
	}
	file, err := r.openFile(ctx, c, d, info.Size)
	if err == nil {
		return file, nil
	}
	r.log.Debug("a blob is read through containerd", "digest", d, "reason", err)
	rctx, cancel := r.until(quiet(caller))
	reader, err := c.ContentStore().ReaderAt(rctx, ocispec.Descriptor{Digest: d, Size: info.Size})
	if err != nil {
		cancel()
		return nil, err
	}
	return &blob{ReaderAt: reader, cancel: cancel}, nil
}

// owners remembers which images blobs were found to belong to.
type owners struct {
	mu sync.Mutex
	of map[digest.Digest]images.Image
}

func (o *owners) add(img images.Image, blobs map[digest.Digest]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil || len(o.of)+len(blobs) > mostOwners {
		o.of = map[digest.Digest]images.Image{}
	}
	for d := range blobs {
		o.of[d] = img
	}
}

// owned reports whether a blob belongs to an image. What a root refers to never
// changes, so that one which was found to belong to an image does so as long as
// that image is there.
func (r *Runtime) owned(ctx context.Context, c *client.Client, d digest.Digest) (bool, error) {
	r.owners.mu.Lock()
	owner, known := r.owners.of[d]
	r.owners.mu.Unlock()
	if known {
		img, err := c.ImageService().Get(ctx, owner.Name)
		if err == nil && img.Target.Digest == owner.Target.Digest {
			return true, nil
		}
	}
	all, err := c.ImageService().List(ctx)
	if err != nil {
		return false, err
	}
	children, err := references(ctx, c.ContentStore())
	if err != nil {
		return false, err
	}
	for _, img := range all {
		if all := reached(children, img.Target.Digest); all[d] {
			r.owners.add(img, all) // whoever wants one of them wants the others
			return true, nil
		}
	}
	return false, nil
}

// contentReference begins the labels by which one blob keeps another (containerd,
// docs/garbage-collection.md).
const contentReference = "containerd.io/gc.ref.content"

// references returns what each blob keeps.
func references(ctx context.Context, store content.Manager) (map[digest.Digest][]digest.Digest, error) {
	found := map[digest.Digest][]digest.Digest{}
	err := store.Walk(ctx, func(info content.Info) error {
		for key, value := range info.Labels {
			if strings.HasPrefix(key, contentReference) {
				found[info.Digest] = append(found[info.Digest], digest.Digest(value))
			}
		}
		return nil
	})
	return found, err
}

// reached returns root and all that it keeps.
func reached(children map[digest.Digest][]digest.Digest, root digest.Digest) map[digest.Digest]bool {
	seen := map[digest.Digest]bool{root: true}
	for next := []digest.Digest{root}; len(next) > 0; {
		d := next[0]
		next = next[1:]
		for _, child := range children[d] {
			if !seen[child] {
				seen[child] = true
				next = append(next, child)
			}
		}
	}
	return seen
}

// whyNoBlob says why a blob cannot be had: it is a layer that containerd has
// discarded, or of no concern to anybody.
func (r *Runtime) whyNoBlob(ctx context.Context, c *client.Client, d digest.Digest) error {
	all, err := c.ImageService().List(ctx)
	if err != nil {
		return err
	}
	for _, img := range all {
		m, err := images.Manifest(ctx, c.ContentStore(), img.Target, platforms.Default())
		if err != nil {
			continue // it has none for this machine
		}
		for _, l := range m.Layers {
			if l.Digest == d {
				return fmt.Errorf("layer %s of image %s is %w: %s", d, img.Name, runtime.ErrNoBlob, discarded)
			}
		}
	}
	return fmt.Errorf("%s is %w: it belongs to no image of namespace %s", d, runtime.ErrNoBlob, r.namespace)
}

// discarded says what to do about layers that are not kept.
const discarded = "containerd deletes layers once they are unpacked where its configuration says " +
	discardSetting + " = true; set it to false there and pull the image anew"

// blob is a blob that is open for reading. It reads ahead, so that readers may
// have small buffers.
type blob struct {
	content.ReaderAt
	cancel context.CancelFunc

	mu sync.Mutex
	// ahead is what was read last, from the offset begin on.
	ahead []byte
	begin int64
}

// ReadAt implements io.ReaderAt.
func (b *blob) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("read at offset %d", offset)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(p) {
		at := offset + int64(n)
		if at >= b.Size() {
			return n, io.EOF
		}
		if at < b.begin || at >= b.begin+int64(len(b.ahead)) {
			if err := b.fill(at); err != nil {
				return n, err
			}
		}
		n += copy(p[n:], b.ahead[at-b.begin:])
	}
	return n, nil
}

// fill reads ahead. The caller holds the lock.
func (b *blob) fill(at int64) error {
	want := int(min(readAhead, b.Size()-at))
	if cap(b.ahead) < want {
		b.ahead = make([]byte, want)
	}
	b.ahead, b.begin = b.ahead[:want], at
	n, err := b.ReaderAt.ReadAt(b.ahead, at)
	if n == want {
		return nil
	}
	b.ahead = b.ahead[:n]
	if n > 0 {
		return nil // the next one says what is wrong
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Close implements io.Closer.
func (b *blob) Close() error {
	defer b.cancel()
	return b.ReaderAt.Close()
}
