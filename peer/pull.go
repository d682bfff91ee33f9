package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/budgiehq/budgie/runtime"
)

// Image returns the root of an image that the node has, by its name as in
// image.docker_image or by the digest of its root. What is not there gives
// runtime.ErrNoBlob. Nothing but the node says that the name stands for that
// root; whatever has the root's digest is what the node meant.
func (c *Client) Image(ctx context.Context, name string) (runtime.Descriptor, error) {
	u, err := urlOf(name)
	if err != nil {
		return runtime.Descriptor{}, c.explain(ctx, err)
	}
	data, header, err := c.fetch(ctx, func(host string) *url.URL { return u.at(host, kindManifests, u.ref) }, maxManifest)
	if err != nil {
		return runtime.Descriptor{}, err
	}
	d := runtime.Descriptor{MediaType: header.Get("Content-Type"), Digest: digestOf(data), Size: int64(len(data))}
	switch said := header.Get("Docker-Content-Digest"); {
	case isDigest(u.ref) && u.ref != d.Digest || said != "" && said != d.Digest:
		err = fmt.Errorf("%w: image %q: the manifest does not have the digest that it should have", ErrInvalid, name)
	case !isMediaType(d.MediaType):
		err = fmt.Errorf("%w: image %q: the manifest has no media type", ErrInvalid, name)
	}
	if err != nil {
		return runtime.Descriptor{}, c.explain(ctx, err)
	}
	return d, nil
}

// Blobs returns the node as a source of the parts of an image, by the image's
// name. Reading fails where nothing arrives for 15 s, at the latest after twice
// that, and like everything else after [Client.Close].
func (c *Client) Blobs(name string) runtime.RangeSource {
	u, err := urlOf(name)
	return &blobs{c, u, err}
}

// blobs implements runtime.BlobSource.
type blobs struct {
	client *Client
	url    imageURL
	err    error
}

// Name implements runtime.BlobSource.
func (b *blobs) Name() string {
	node := b.client.expected()
	if node == "" {
		return "a peer"
	}
	return fmt.Sprintf("peer %.12s", node)
}

// Open implements runtime.BlobSource.
func (b *blobs) Open(ctx context.Context, blob runtime.Descriptor, offset int64) (io.ReadCloser, error) {
	return b.OpenRange(ctx, blob, offset, blob.Size)
}

// OpenRange implements runtime.RangeSource.
func (b *blobs) OpenRange(ctx context.Context, blob runtime.Descriptor, offset, length int64) (io.ReadCloser, error) {
	c := b.client
	switch {
	case b.err != nil:
		return nil, c.explain(ctx, b.err)
	case !isDigest(blob.Digest):
		return nil, c.explain(ctx, fmt.Errorf("%w: %q is not a digest of sha256", runtime.ErrNoBlob, plain(blob.Digest, maxText)))
	case blob.Size < 0 || offset < 0 || offset > blob.Size || length < 0:
		return nil, c.explain(ctx, fmt.Errorf("read %s of %d bytes from %d on: there is nothing", blob.Digest, blob.Size, offset))
	}
	length = min(length, blob.Size-offset)
	if length == 0 && blob.Size > 0 {
		return io.NopCloser(strings.NewReader("")), nil // no range is that short
	}
	ctx, stop := c.within(ctx)
	return b.open(ctx, stop, blob, offset, length)
}

// open asks for a piece of a blob. stop is called when it is closed, or on
// failure.
func (b *blobs) open(ctx context.Context, stop func(), blob runtime.Descriptor, offset, length int64) (io.ReadCloser, error) {
	header, want, part := http.Header{}, http.StatusOK, ""
	if length < blob.Size {
		want = http.StatusPartialContent
		part = fmt.Sprintf("%d-%d", offset, offset+length-1)
		header.Set("Range", "bytes="+part)
	}
	resp, _, err := b.client.get(ctx, &b.client.large, func(host string) *url.URL {
		return b.url.at(host, kindBlobs, blob.Digest)
	}, header, want)
	if err != nil {
		err = b.client.explain(ctx, err)
		stop()
		return nil, err
	}
	r := &blobReader{ReadCloser: resp.Body, client: b.client, ctx: ctx, stop: stop}
	if resp.ContentLength != length || part != "" &&
		resp.Header.Get("Content-Range") != fmt.Sprintf("bytes %s/%d", part, blob.Size) {
		_ = r.Close() // it is not what was asked for
		return nil, b.client.explain(context.Background(), fmt.Errorf("%w: %s has another size there", ErrInvalid, blob.Digest))
	}
	return r, nil
}

// blobReader is a blob that arrives.
type blobReader struct {
	io.ReadCloser
	client *Client
	ctx    context.Context
	stop   func()
}

// Read implements io.Reader.
func (r *blobReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.client.explain(r.ctx, err)
	}
	return n, err
}

// Close implements io.Closer.
func (r *blobReader) Close() error {
	err := r.ReadCloser.Close()
	r.stop()
	return err
}
