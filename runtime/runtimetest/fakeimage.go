package runtimetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// fakeLayer is the size of the only layer of an image that is made up.
const fakeLayer = 1 << 20

// Media types of the OCI image specification, as far as a Fake needs them.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// fakeParts is what refers to other blobs in an index or a manifest.
type fakeParts struct {
	MediaType string               `json:"mediaType"`
	Manifests []runtime.Descriptor `json:"manifests,omitempty"`
	Config    *runtime.Descriptor  `json:"config,omitempty"`
	Layers    []runtime.Descriptor `json:"layers,omitempty"`
}

// madeUp returns the image that the registries of a Fake have under a name, and
// its blobs by their digests.
func madeUp(name string) (runtime.Descriptor, map[string][]byte) {
	blobs := map[string][]byte{}
	add := func(mediaType string, data []byte) runtime.Descriptor {
		d := runtime.Descriptor{MediaType: mediaType, Digest: digestOf(data), Size: int64(len(data))}
		blobs[d.Digest] = data
		return d
	}
	seed := sha256.Sum256([]byte("layer of " + name))
	layer := add(typeLayer, bytes.Repeat(seed[:], fakeLayer/len(seed)))
	config := add(typeConfig, []byte("{}"))
	// It cannot fail: there is nothing in it but strings and numbers.
	manifest, _ := json.Marshal(fakeParts{MediaType: typeManifest, Config: &config, Layers: []runtime.Descriptor{layer}})
	return add(typeManifest, manifest), blobs
}

// layerOf returns the digest of the layer of an image that is made up.
func layerOf(manifest []byte) string {
	var parts fakeParts
	if err := json.Unmarshal(manifest, &parts); err != nil || len(parts.Layers) == 0 {
		return ""
	}
	return parts.Layers[0].Digest
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// Image returns the root of an image that was pulled or fetched.
func (f *Fake) Image(ctx context.Context, name string) (runtime.Descriptor, error) {
	_, done, err := f.enter(ctx, "image", "")
	if err != nil {
		return runtime.Descriptor{}, err
	}
	defer done()
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	if root, ok := f.world.images[name]; ok {
		return root, nil
	}
	for _, root := range f.world.images {
		if root.Digest == name {
			return root, nil
		}
	}
	return runtime.Descriptor{}, f.errorf("image", "", fmt.Errorf("%s is %w", name, runtime.ErrNoBlob))
}

// OpenBlob opens a part of an image that was pulled or fetched.
func (f *Fake) OpenBlob(ctx context.Context, digest string) (runtime.Blob, error) {
	_, done, err := f.enter(ctx, "open blob", "")
	if err != nil {
		return nil, err
	}
	defer done()
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	data, ok := f.world.blobs[digest]
	if !ok {
		return nil, f.errorf("open blob", "", fmt.Errorf("%s is %w", digest, runtime.ErrNoBlob))
	}
	return fakeBlob{bytes.NewReader(data)}, nil
}

type fakeBlob struct{ *bytes.Reader }

// Close does nothing.
func (fakeBlob) Close() error { return nil }

// Fetch takes an image from others, blob by blob. Of an index it takes the first
// manifest that somebody has.
func (f *Fake) Fetch(ctx context.Context, image bunfile.Image, root runtime.Descriptor, from []runtime.BlobSource, report func(runtime.PullProgress)) (string, error) {
	ctx, done, err := f.enter(ctx, "fetch", "")
	if err != nil {
		return "", err
	}
	defer done()
	name := image.DockerImage
	tell := func(e runtime.PullProgress) {
		if e.Image = name; report != nil {
			report(e)
		}
	}
	w := f.world
	w.mu.Lock()
	exact := name + "@" + root.Digest
	present := w.images[name] == root || w.images[exact] == root
	w.mu.Unlock()
	if present {
		tell(runtime.PullProgress{Step: runtime.PullPresent})
		return root.Digest, nil
	}
	g := &fakeFetch{world: w, from: from, registry: map[string][]byte{}, got: map[string][]byte{}, tell: tell}
	if image.Pull != bunfile.PullNever {
		_, g.registry = madeUp(name)
	}
	if err := g.all(ctx, root); err != nil {
		return "", f.errorf("fetch", "", fmt.Errorf("image %s: %w", name, err))
	}
	w.mu.Lock()
	maps.Copy(w.blobs, g.got)
	if _, taken := w.images[name]; taken {
		name = exact
	}
	w.images[name] = root
	w.mu.Unlock()
	name = image.DockerImage
	tell(runtime.PullProgress{Step: runtime.PullUnpacking})
	tell(runtime.PullProgress{Step: runtime.PullDone})
	return root.Digest, nil
}

// fakeFetch is one Fetch.
type fakeFetch struct {
	world    *fakeWorld
	from     []runtime.BlobSource
	registry map[string][]byte
	got      map[string][]byte
	tell     func(runtime.PullProgress)
}

// all gets a blob and what it refers to.
func (g *fakeFetch) all(ctx context.Context, d runtime.Descriptor) error {
	data, err := g.blob(ctx, d)
	if err != nil || d.MediaType != typeIndex && d.MediaType != typeManifest {
		return err
	}
	var parts fakeParts
	if err := json.Unmarshal(data, &parts); err != nil {
		return fmt.Errorf("%s is damaged: %w", d.Digest, err)
	}
	if d.MediaType == typeIndex {
		err := fmt.Errorf("of the manifests of %s there is %w", d.Digest, runtime.ErrNoBlob)
		for _, m := range parts.Manifests {
			if err = g.all(ctx, m); !errors.Is(err, runtime.ErrNoBlob) {
				break
			}
		}
		return err
	}
	if parts.Config != nil {
		if err := g.all(ctx, *parts.Config); err != nil {
			return err
		}
	}
	for _, l := range parts.Layers {
		g.tell(runtime.PullProgress{Step: runtime.PullFetching, Blob: l.Digest, Total: l.Size})
		if err := g.all(ctx, l); err != nil {
			return err
		}
		g.tell(runtime.PullProgress{Step: runtime.PullFetched, Blob: l.Digest, Offset: l.Size, Total: l.Size})
	}
	return nil
}

// blob gets a blob from what is here, a source, or the registry.
func (g *fakeFetch) blob(ctx context.Context, d runtime.Descriptor) ([]byte, error) {
	g.world.mu.Lock()
	data, ok := g.world.blobs[d.Digest]
	g.world.mu.Unlock()
	if !ok {
		data, ok = g.got[d.Digest]
	}
	var errs []error
	for _, source := range g.from {
		if ok {
			break
		}
		var err error
		data, err = readWhole(ctx, source, d)
		ok = err == nil
		errs = append(errs, err)
	}
	if !ok {
		data, ok = g.registry[d.Digest]
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !ok {
		return nil, fmt.Errorf("%s is %w of any source: %w", d.Digest, runtime.ErrNoBlob, errors.Join(append(errs, errors.New("nor at the registry"))...))
	}
	g.got[d.Digest] = data
	return data, nil
}

// readWhole reads a blob from a source and verifies it.
func readWhole(ctx context.Context, source runtime.BlobSource, d runtime.Descriptor) ([]byte, error) {
	r, err := source.Open(ctx, d, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source.Name(), err)
	}
	data, err := io.ReadAll(io.LimitReader(r, d.Size))
	if err = errors.Join(err, r.Close()); err == nil && digestOf(data) != d.Digest {
		err = errors.New("it sent something else")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source.Name(), err)
	}
	return data, nil
}
