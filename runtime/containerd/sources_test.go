//go:build linux

package containerd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/budgiehq/budgie/runtime"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// elsewhere is a source of images that are in memory, or in another runtime.
type elsewhere struct {
	name string
	open func(ctx context.Context, digest string) (runtime.Blob, error)
	// fault, which may be nil, changes what is read of a blob from an offset on.
	fault func(ctx context.Context, blob runtime.Descriptor, offset int64, r io.ReadCloser) (io.ReadCloser, error)

	mu     sync.Mutex
	served map[string]int64 // bytes, by digest
}

// having returns a source of images in memory.
func having(name string, all ...ociimage.Image) *elsewhere {
	blobs := map[string][]byte{}
	for _, img := range all {
		for d, data := range img.Blobs {
			blobs[d.String()] = data
		}
	}
	return &elsewhere{name: name, served: map[string]int64{}, open: func(_ context.Context, digest string) (runtime.Blob, error) {
		data, ok := blobs[digest]
		if !ok {
			return nil, fmt.Errorf("%s is %w", digest, runtime.ErrNoBlob)
		}
		return memoryBlob{bytes.NewReader(data)}, nil
	}}
}

type memoryBlob struct{ *bytes.Reader }

func (memoryBlob) Close() error { return nil }

func (e *elsewhere) Name() string { return e.name }

// Open implements runtime.BlobSource.
func (e *elsewhere) Open(ctx context.Context, blob runtime.Descriptor, offset int64) (io.ReadCloser, error) {
	return e.read(ctx, blob, offset, blob.Size-offset)
}

func (e *elsewhere) read(ctx context.Context, blob runtime.Descriptor, offset, length int64) (io.ReadCloser, error) {
	b, err := e.open(ctx, blob.Digest)
	if err != nil {
		return nil, err
	}
	r := struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(b, offset, length), b}
	var out io.ReadCloser = r
	if e.fault != nil {
		if out, err = e.fault(ctx, blob, offset, r); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return &counted{ReadCloser: out, e: e, digest: blob.Digest}, nil
}

// counted counts what is read of a blob.
type counted struct {
	io.ReadCloser
	e      *elsewhere
	digest string
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.e.mu.Lock()
	c.e.served[c.digest] += int64(n)
	c.e.mu.Unlock()
	return n, err
}

// sent returns how many bytes of some blobs were read, of all if there is none.
func (e *elsewhere) sent(blobs ...digest.Digest) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := int64(0)
	for d, served := range e.served {
		ok := len(blobs) == 0
		for _, b := range blobs {
			ok = ok || b.String() == d
		}
		if ok {
			n += served
		}
	}
	return n
}

// ranges is a source that can read ranges.
type ranges struct{ *elsewhere }

// OpenRange implements runtime.RangeSource.
func (e ranges) OpenRange(ctx context.Context, blob runtime.Descriptor, offset, length int64) (io.ReadCloser, error) {
	return e.read(ctx, blob, offset, length)
}

// faulty is a reader with what a test makes of it.
type faulty struct {
	io.Closer
	read func(p []byte) (int, error)
}

// Read implements io.Reader.
func (f faulty) Read(p []byte) (int, error) { return f.read(p) }

var errCut = fmt.Errorf("the cable is out: %w", io.ErrUnexpectedEOF)

// cutAt ends what is read of big blobs at an offset with an error.
func cutAt(at int64) func(context.Context, runtime.Descriptor, int64, io.ReadCloser) (io.ReadCloser, error) {
	return func(_ context.Context, blob runtime.Descriptor, offset int64, r io.ReadCloser) (io.ReadCloser, error) {
		if blob.Size <= at {
			return r, nil
		}
		if offset >= at {
			return nil, errCut
		}
		return faulty{r, func(p []byte) (int, error) {
			if offset >= at {
				return 0, errCut
			}
			n, err := r.Read(p[:min(int64(len(p)), at-offset)])
			offset += int64(n)
			return n, err
		}}, nil
	}
}

// stallAt lets what is read of big blobs stall at an offset.
func stallAt(at int64) func(context.Context, runtime.Descriptor, int64, io.ReadCloser) (io.ReadCloser, error) {
	return func(ctx context.Context, blob runtime.Descriptor, offset int64, r io.ReadCloser) (io.ReadCloser, error) {
		return faulty{r, func(p []byte) (int, error) {
			if blob.Size > at && offset >= at {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			if blob.Size > at {
				p = p[:min(int64(len(p)), at-offset)]
			}
			n, err := r.Read(p)
			offset += int64(n)
			return n, err
		}}, nil
	}
}

// corrupted changes a byte of each piece of big blobs.
func corrupted(_ context.Context, blob runtime.Descriptor, _ int64, r io.ReadCloser) (io.ReadCloser, error) {
	if blob.Size < 1<<16 {
		return r, nil
	}
	return faulty{r, func(p []byte) (int, error) {
		n, err := r.Read(p)
		if n > 0 {
			p[n/2] ^= 1
		}
		return n, err
	}}, nil
}

// random is a file of bytes that no compression makes smaller.
func random(t testing.TB, size int) ociimage.Image {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	return imageOf(t, map[string]ociimage.File{fmt.Sprintf("/data-%x", data[:8]): {Data: data, Mode: 0o644}})
}

func imageOf(t testing.TB, files map[string]ociimage.File) ociimage.Image {
	t.Helper()
	img, err := ociimage.New(files, ocispec.ImageConfig{}, "")
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// stack returns the first image with the layers of the others on it.
func stack(t testing.TB, all ...ociimage.Image) ociimage.Image {
	t.Helper()
	blobs := map[digest.Digest][]byte{}
	var manifest ocispec.Manifest
	var config ocispec.Image
	for i, img := range all {
		m, c := parts(t, img)
		if i == 0 {
			manifest, config = m, c
		} else {
			manifest.Layers = append(manifest.Layers, m.Layers...)
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, c.RootFS.DiffIDs...)
		}
		for _, l := range m.Layers {
			blobs[l.Digest] = img.Blobs[l.Digest]
		}
	}
	out := ociimage.Image{Blobs: blobs}
	manifest.Config = put(t, blobs, ocispec.MediaTypeImageConfig, config)
	out.Manifest = put(t, blobs, ocispec.MediaTypeImageManifest, manifest)
	return out
}

func parts(t testing.TB, img ociimage.Image) (m ocispec.Manifest, c ocispec.Image) {
	t.Helper()
	if err := json.Unmarshal(img.Blobs[img.Manifest.Digest], &m); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(img.Blobs[m.Config.Digest], &c); err != nil {
		t.Fatal(err)
	}
	return m, c
}

// put adds a blob of JSON.
func put(t testing.TB, blobs map[digest.Digest][]byte, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	blobs[d.Digest] = data
	return d
}

// layersOf returns the digests of an image's layers.
func layersOf(t testing.TB, img ociimage.Image) []digest.Digest {
	t.Helper()
	m, _ := parts(t, img)
	var out []digest.Digest
	for _, l := range m.Layers {
		out = append(out, l.Digest)
	}
	return out
}

// rootOf is the root of an image as sources tell it.
func rootOf(img ociimage.Image) runtime.Descriptor {
	return runtime.Descriptor{MediaType: img.Manifest.MediaType, Digest: img.Manifest.Digest.String(), Size: img.Manifest.Size}
}
