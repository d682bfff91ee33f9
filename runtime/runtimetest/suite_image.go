package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/budgiehq/budgie/runtime"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// source returns the runtime as one that hands out images, false where it runs
// none.
func (s *suite) source() (runtime.ImageSource, bool) {
	s.Helper()
	if _, ok := s.puller(); !ok {
		return nil, false
	}
	return ability[runtime.ImageSource](s, s.WithoutImages, "WithoutImages"), true
}

// sink returns the runtime as one that takes images from others, likewise.
func (s *suite) sink() (runtime.ImageSink, bool) {
	s.Helper()
	if _, ok := s.puller(); !ok {
		return nil, false
	}
	return ability[runtime.ImageSink](s, s.WithoutImages, "WithoutImages"), true
}

// offer is a source with an image that nobody has seen before.
type offer struct {
	name  string
	image bunfile.Image
	root  runtime.Descriptor
	blobs map[string][]byte
	// fault changes what is read; its error is that of Open.
	fault func([]byte) ([]byte, error)
	opens int
}

// offer makes up an image, under a name at a registry that is not there. No
// registry is to be asked for it.
func (s *suite) offer() *offer {
	s.Helper()
	id := NewID()
	img, err := ociimage.New(map[string]ociimage.File{"/" + id: {Data: []byte(id), Mode: 0o644}}, ocispec.ImageConfig{}, "")
	if err != nil {
		s.Fatal(err)
	}
	o := &offer{name: "offer", blobs: map[string][]byte{}, image: bunfile.Image{DockerImage: "127.0.0.1:1/" + id[:12] + ":1", Pull: bunfile.PullNever}}
	for d, data := range img.Blobs {
		o.blobs[d.String()] = data
	}
	o.root = runtime.Descriptor{MediaType: img.Manifest.MediaType, Digest: img.Manifest.Digest.String(), Size: img.Manifest.Size}
	return o
}

// Name implements runtime.BlobSource.
func (o *offer) Name() string { return o.name }

// Open implements runtime.BlobSource. The suite has the runtime read from one
// source at a time.
func (o *offer) Open(_ context.Context, blob runtime.Descriptor, offset int64) (io.ReadCloser, error) {
	o.opens++
	data, ok := o.blobs[blob.Digest]
	if !ok {
		return nil, fmt.Errorf("%s is %w", blob.Digest, runtime.ErrNoBlob)
	}
	if o.fault != nil {
		var err error
		if data, err = o.fault(bytes.Clone(data)); err != nil {
			return nil, err
		}
	}
	return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
}

// wantBlob checks that a blob can be read, and returns it.
func (s *suite) wantBlob(source runtime.ImageSource, id string) []byte {
	s.Helper()
	blob, err := source.OpenBlob(s.ctx, id)
	if err != nil {
		s.Fatalf("OpenBlob: %v", err)
	}
	data, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size()))
	if err := errors.Join(err, blob.Close()); err != nil || digest.FromBytes(data).String() != id {
		s.Fatalf("of %s %d bytes were read, which are those of %s: %v", id, len(data), digest.FromBytes(data), err)
	}
	return data
}

// testImageSource: what was pulled is handed out, by its name and its digest.
func (s *suite) testImageSource() {
	source, ok := s.source()
	if !ok {
		return
	}
	p, _ := s.puller()
	want, err := p.Pull(s.ctx, s.Image, nil)
	if err != nil {
		s.Fatal(err)
	}
	for _, name := range []string{s.Image.DockerImage, want} {
		root, err := source.Image(s.ctx, name)
		if err != nil || root.Digest != want || root.MediaType == "" {
			s.Fatalf("Image of %s returned %+v, %v; want %s", name, root, err, want)
		}
		if data := s.wantBlob(source, want); int64(len(data)) != root.Size {
			s.Errorf("the root has %d bytes; want %d", len(data), root.Size)
		}
	}
	nothing := digest.FromString("nothing").String()
	for _, name := range []string{"localhost/nobody/made:this", nothing} {
		_, err := source.Image(s.ctx, name)
		s.wantError("an image that is not there", err, runtime.ErrNoBlob)
	}
	_, err = source.OpenBlob(s.ctx, nothing)
	s.wantError("a blob that is not there", err, runtime.ErrNoBlob)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err = source.Image(ctx, want)
	s.wantError("Image with a cancelled context", err, context.Canceled)
	_, err = source.OpenBlob(ctx, want)
	s.wantError("OpenBlob with a cancelled context", err, context.Canceled)
}

// testImageSink: an image comes from whoever has it, once, and is handed out
// then.
func (s *suite) testImageSink() {
	sink, ok := s.sink()
	if !ok {
		return
	}
	o := s.offer()
	down := &offer{name: "down", blobs: o.blobs, fault: func([]byte) ([]byte, error) { return nil, errors.New("connection refused") }}
	lacking := &offer{name: "lacking"}
	for i := range 3 {
		var steps []runtime.PullStep
		report := func(e runtime.PullProgress) { steps = append(steps, e.Step) }
		if i == 2 {
			report = nil
		}
		opens := o.opens
		got, err := sink.Fetch(s.ctx, o.image, o.root, []runtime.BlobSource{lacking, down, o}, report)
		if err != nil || got != o.root.Digest {
			s.Fatalf("Fetch returned %q, %v; want %s", got, err, o.root.Digest)
		}
		switch {
		case i == 0 && (len(steps) == 0 || steps[len(steps)-1] != runtime.PullDone || slices.Contains(steps, runtime.PullResolving)):
			s.Errorf("the events are %v", steps)
		case i == 1 && !slices.Equal(steps, []runtime.PullStep{runtime.PullPresent}):
			s.Errorf("the events of the second time are %v", steps)
		case i > 0 && o.opens != opens:
			s.Error("what is there is fetched again")
		}
	}
	source, _ := s.source()
	if root, err := source.Image(s.ctx, o.image.DockerImage); err != nil || root != o.root {
		s.Errorf("Image returned %+v, %v; want %+v", root, err, o.root)
	}
	for id := range o.blobs {
		s.wantBlob(source, id)
	}
}

// testImageSinkFails: what nobody has or what is not what it claims to be is not
// taken, and does no harm to what comes later.
func (s *suite) testImageSinkFails() {
	sink, ok := s.sink()
	if !ok {
		return
	}
	source, _ := s.source()
	o := s.offer()
	fetch := func(from ...runtime.BlobSource) error {
		_, err := sink.Fetch(s.ctx, o.image, o.root, from, nil)
		return err
	}
	s.wantError("a Fetch from nobody", fetch(), runtime.ErrNoBlob)
	s.wantError("a Fetch from somebody who does not have it", fetch(&offer{name: "lacking"}), runtime.ErrNoBlob)
	for id := range o.blobs {
		part := maps.Clone(o.blobs)
		delete(part, id)
		s.wantError("a Fetch of a part", fetch(&offer{name: "part", blobs: part}), runtime.ErrNoBlob)
	}
	for what, fault := range map[string]func([]byte) ([]byte, error){
		"changed":   func(b []byte) ([]byte, error) { b[len(b)/2] ^= 1; return b, nil },
		"too short": func(b []byte) ([]byte, error) { return b[:len(b)-1], nil },
		"empty":     func([]byte) ([]byte, error) { return nil, nil },
	} {
		if err := fetch(&offer{name: what, blobs: o.blobs, fault: fault}); err == nil {
			s.Errorf("what is %s is taken", what)
		}
		_, err := source.Image(s.ctx, o.image.DockerImage)
		s.wantError("an image that was refused", err, runtime.ErrNoBlob)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := sink.Fetch(ctx, o.image, o.root, []runtime.BlobSource{o}, nil)
	s.wantError("a Fetch with a cancelled context", err, context.Canceled)
	o.fault = func(b []byte) ([]byte, error) { return append(b, "and more than it should"...), nil }
	if err := fetch(o); err != nil {
		s.Errorf("after all this: %v", err)
	}
}

// testImageSinkKeepsNames: a name that stands for another image goes on to.
func (s *suite) testImageSinkKeepsNames() {
	sink, ok := s.sink()
	if !ok {
		return
	}
	source, _ := s.source()
	first, second := s.offer(), s.offer()
	second.image = first.image
	for range 2 {
		for _, o := range []*offer{first, second} {
			if got, err := sink.Fetch(s.ctx, o.image, o.root, []runtime.BlobSource{o}, nil); err != nil || got != o.root.Digest {
				s.Fatalf("Fetch returned %q, %v; want %s", got, err, o.root.Digest)
			}
			if root, err := source.Image(s.ctx, o.image.DockerImage); err != nil || root != first.root {
				s.Errorf("the name stands for %+v, %v; want %+v", root, err, first.root)
			}
			if root, err := source.Image(s.ctx, o.root.Digest); err != nil || root != o.root {
				s.Errorf("the digest stands for %+v, %v; want %+v", root, err, o.root)
			}
		}
	}
}
