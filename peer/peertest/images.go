package peertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/budgiehq/budgie/runtime"
)

// Images is a runtime.ImageSource in memory. The zero value has nothing. All
// methods may be called concurrently.
type Images struct {
	mu    sync.Mutex
	roots map[string]runtime.Descriptor
	blobs map[string][]byte
	opens map[string]int
}

// Digest returns the digest of bytes, as descriptors have it.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Put stores a part of an image under its digest, which it returns.
func (i *Images) Put(data []byte) string {
	d := Digest(data)
	i.PutAs(d, data)
	return d
}

// PutAs stores bytes under a digest, which need not be theirs, as in a store
// that is damaged.
func (i *Images) PutAs(digest string, data []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.blobs == nil {
		i.blobs = make(map[string][]byte)
	}
	i.blobs[digest] = bytes.Clone(data)
}

// Tag gives a root a full name, such as docker.io/library/web:latest.
func (i *Images) Tag(name string, root runtime.Descriptor) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.roots == nil {
		i.roots = make(map[string]runtime.Descriptor)
	}
	i.roots[name] = root
}

// Discard forgets a part.
func (i *Images) Discard(digest string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.blobs, digest)
}

// Opened returns how often a part was opened.
func (i *Images) Opened(digest string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.opens[digest]
}

// Image implements runtime.ImageSource.
func (i *Images) Image(ctx context.Context, name string) (runtime.Descriptor, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if d, ok := i.roots[name]; ok {
		return d, ctx.Err()
	}
	for _, d := range i.roots {
		if d.Digest == name {
			return d, ctx.Err()
		}
	}
	return runtime.Descriptor{}, fmt.Errorf("image %s: %w", name, runtime.ErrNoBlob)
}

// OpenBlob implements runtime.ImageSource.
func (i *Images) OpenBlob(ctx context.Context, digest string) (runtime.Blob, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	data, ok := i.blobs[digest]
	if !ok {
		return nil, fmt.Errorf("part %s: %w", digest, runtime.ErrNoBlob)
	}
	if i.opens == nil {
		i.opens = make(map[string]int)
	}
	i.opens[digest]++
	return blob{bytes.NewReader(data)}, ctx.Err()
}

// blob implements runtime.Blob.
type blob struct{ *bytes.Reader }

// Close implements io.Closer.
func (blob) Close() error { return nil }
