package peer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/runtime"
)

// putImage stores a small image, and returns its root.
func (r *rig) putImage(t *testing.T, name string) (ociimage.Image, runtime.Descriptor) {
	t.Helper()
	img, err := ociimage.New(map[string]ociimage.File{
		"/hello": {Data: bytes.Repeat([]byte(name), 1000), Mode: 0o644},
	}, ocispec.ImageConfig{Cmd: []string{"/hello"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range img.Blobs {
		r.images.Put(data)
	}
	root := runtime.Descriptor{MediaType: img.Manifest.MediaType, Digest: img.Manifest.Digest.String(), Size: img.Manifest.Size}
	r.images.Tag(name, root)
	return img, root
}

// An image is found by every form of its name, and all its parts can be read.
func TestImage(t *testing.T) {
	r := newRig(t)
	img, root := r.putImage(t, "docker.io/library/web:latest")
	_, local := r.putImage(t, "localhost:5000/team/web:v2")
	c := r.client(t)
	for name, want := range map[string]runtime.Descriptor{
		"web": root, "web:latest": root, "docker.io/library/web": root, "docker.io/library/web:latest": root,
		"index.docker.io/library/web": root, "web:latest@" + root.Digest: root, "web@" + root.Digest: root,
		root.Digest: root, "elsewhere/other@" + root.Digest: root,
		"localhost:5000/team/web:v2": local,
	} {
		if got, err := c.Image(soon(t), name); err != nil || got != want {
			t.Errorf("image %q: %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"web:other", "ghcr.io/library/web", "localhost:5001/team/web:v2", "team/web:v2", "web@" + peertest.Digest(nil), peertest.Digest(nil)} {
		if _, err := c.Image(soon(t), name); !errors.Is(err, runtime.ErrNoBlob) {
			t.Errorf("image %q: %v", name, err)
		}
	}
	for _, name := range []string{"", "Web", "web:", "../web", "web@sha512:" + strings.Repeat("0", 128), strings.Repeat("a", 600)} {
		if _, err := c.Image(soon(t), name); err == nil || errors.Is(err, runtime.ErrNoBlob) {
			t.Errorf("image %q: %v", name, err)
		}
	}
	src := c.Blobs("web")
	if !strings.Contains(src.Name(), r.flock.NodeID()[:12]) {
		t.Errorf("the source is called %q", src.Name())
	}
	for d, want := range img.Blobs {
		size := int64(len(want))
		for _, offset := range []int64{0, 1, size / 2, size - 1, size} {
			got, err := read(t, src, runtime.Descriptor{Digest: d.String(), Size: size}, offset)
			if err != nil || !bytes.Equal(got, want[offset:]) {
				t.Errorf("%s from %d on: %d bytes, %v", d, offset, len(got), err)
			}
		}
		for _, piece := range [][2]int64{{0, 1}, {1, 2}, {size / 2, size}, {size - 1, 1}, {0, size}, {0, 0}, {size, 5}} {
			desc := runtime.Descriptor{Digest: d.String(), Size: size}
			rc, err := src.OpenRange(soon(t), desc, piece[0], piece[1])
			if err != nil {
				t.Fatalf("%s %v: %v", d, piece, err)
			}
			got, err := io.ReadAll(rc)
			if cerr := rc.Close(); err != nil || cerr != nil || !bytes.Equal(got, want[piece[0]:min(size, piece[0]+piece[1])]) {
				t.Errorf("%s %v: %d bytes, %v, %v", d, piece, len(got), err, cerr)
			}
		}
	}
	if _, err := src.OpenRange(soon(t), root, 0, -1); err == nil {
		t.Error("a piece of a negative length can be read")
	}
}

func read(t *testing.T, src runtime.BlobSource, d runtime.Descriptor, offset int64) ([]byte, error) {
	t.Helper()
	r, err := src.Open(soon(t), d, offset)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestBlobsThatCannotBeRead(t *testing.T) {
	r := newRig(t)
	data := []byte("a layer")
	d := runtime.Descriptor{Digest: r.images.Put(data), Size: int64(len(data))}
	c := r.client(t)
	none := peertest.Digest([]byte("x"))
	for _, bad := range []struct {
		name   string
		d      runtime.Descriptor
		offset int64
		want   error
	}{
		{"web", runtime.Descriptor{Digest: none, Size: 7}, 0, runtime.ErrNoBlob},
		{"web", runtime.Descriptor{Digest: none, Size: 7}, 3, runtime.ErrNoBlob},
		{"web", runtime.Descriptor{Digest: "sha512:00", Size: 7}, 0, runtime.ErrNoBlob},
		{"web", runtime.Descriptor{Digest: "../../etc/passwd", Size: 7}, 0, runtime.ErrNoBlob},
		{"web", runtime.Descriptor{Digest: d.Digest, Size: 8}, 0, peer.ErrInvalid},
		{"web", runtime.Descriptor{Digest: d.Digest, Size: 8}, 3, peer.ErrInvalid},
		{"web", runtime.Descriptor{Digest: d.Digest, Size: 100}, 50, peer.ErrRefused},
		{"web", d, 8, nil},
		{"web", d, -1, nil},
		{"Web", d, 0, nil},
	} {
		if got, err := read(t, c.Blobs(bad.name), bad.d, bad.offset); err == nil || bad.want != nil && !errors.Is(err, bad.want) {
			t.Errorf("%s %+v from %d: %q, %v", bad.name, bad.d, bad.offset, got, err)
		}
	}
	if got, err := read(t, c.Blobs("web"), d, 2); err != nil || string(got) != "layer" {
		t.Errorf("after all that: %q, %v", got, err)
	}
}

// Several runtimes are asked in order; one that cannot answer is not held
// against the others.
func TestSeveralRuntimes(t *testing.T) {
	r := newRig(t)
	second := &peertest.Images{}
	r.node.AddImages(brokenImages{})
	r.node.AddImages(second)
	data := []byte("of the second")
	d := runtime.Descriptor{Digest: second.Put(data), Size: int64(len(data))}
	if got, err := read(t, r.client(t).Blobs("web"), d, 0); err != nil || string(got) != string(data) {
		t.Errorf("got %q, %v", got, err)
	}
	_, err := r.client(t).Image(soon(t), "web")
	if !errors.Is(err, peer.ErrRefused) || strings.Contains(err.Error(), "secret") {
		t.Errorf("what one could not say: %v", err)
	}
}

type brokenImages struct{}

func (brokenImages) Image(context.Context, string) (runtime.Descriptor, error) {
	return runtime.Descriptor{}, errors.New("/secret/path: broken")
}

func (brokenImages) OpenBlob(context.Context, string) (runtime.Blob, error) {
	return nil, errors.New("/secret/path: broken")
}

// I2: what a peer says about parts that it has discarded reaches who asked.
func TestDiscardedLayerIsExplained_I2(t *testing.T) {
	r := newRig(t)
	r.node.AddImages(discarded{})
	_, err := r.client(t).Blobs("web").Open(soon(t), runtime.Descriptor{Digest: peertest.Digest(nil), Size: 1}, 0)
	if !errors.Is(err, runtime.ErrNoBlob) || !strings.Contains(err.Error(), "discard_unpacked_layers") {
		t.Errorf("got %v", err)
	}
}

type discarded struct{ brokenImages }

func (discarded) OpenBlob(context.Context, string) (runtime.Blob, error) {
	return nil, fmt.Errorf("the setting discard_unpacked_layers threw it away: %w", runtime.ErrNoBlob)
}

// What the store has under a digest that is not its own is not handed out as a
// manifest.
func TestDamagedManifest(t *testing.T) {
	r := newRig(t)
	d := peertest.Digest([]byte(`{"schemaVersion":2,"config":{}}`))
	r.images.PutAs(d, []byte(`{"schemaVersion":2,"config":[]}`))
	r.images.Tag("docker.io/library/web:latest", runtime.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 31})
	if got, err := r.client(t).Image(soon(t), "web"); !errors.Is(err, peer.ErrRefused) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The OCI distribution API answers, beyond what the conformance suite
// asks for.
func TestOCIAnswers(t *testing.T) {
	r := newRig(t)
	_, root := r.putImage(t, "docker.io/library/web:latest")
	index, err := json.Marshal(ocispec.Index{Manifests: []ocispec.Descriptor{}, MediaType: "", Versioned: specs.Versioned{SchemaVersion: 2}})
	if err != nil {
		t.Fatal(err)
	}
	index = bytes.Replace(index, []byte(`"manifests":[]`), []byte(`"manifests":[{}]`), 1)
	child := r.images.Put(index) // is no root
	layer := r.images.Put([]byte("0123456789"))
	tr := r.rawHTTP(t)
	blob := "/v2/library/web/blobs/" + layer
	for _, c := range []struct {
		path, rng string
		status    int
		body      string
		header    map[string]string
	}{
		{"/v2/", "", 200, "{}", map[string]string{"Docker-Distribution-Api-Version": "registry/2.0"}},
		{"/v2/web/manifests/latest", "", 200, "", map[string]string{"Content-Type": root.MediaType, "Docker-Content-Digest": root.Digest, "Content-Length": fmt.Sprint(root.Size)}},
		{"/v2/docker.io/library/web/manifests/latest", "", 200, "", map[string]string{"Docker-Content-Digest": root.Digest}},
		{"/v2/library/web/manifests/latest?ns=docker.io", "", 200, "", map[string]string{"Docker-Content-Digest": root.Digest}},
		{"/v2/library/web/manifests/latest?ns=ghcr.io", "", 404, "MANIFEST_UNKNOWN", nil},
		{"/v2/any/manifests/" + child, "", 200, string(index), map[string]string{"Content-Type": ocispec.MediaTypeImageIndex, "Docker-Content-Digest": child}},
		{"/v2/any/manifests/" + layer, "", 404, "MANIFEST_UNKNOWN", nil},
		{blob, "", 200, "0123456789", map[string]string{"Accept-Ranges": "bytes", "Docker-Content-Digest": layer}},
		{blob, "bytes=3-", 206, "3456789", map[string]string{"Content-Range": "bytes 3-9/10"}},
		{blob, "bytes=3-4", 206, "34", map[string]string{"Content-Range": "bytes 3-4/10", "Content-Length": "2"}},
		{blob, "bytes=-2", 206, "89", map[string]string{"Content-Range": "bytes 8-9/10"}},
		{blob, "bytes=10-", 416, "UNSUPPORTED", map[string]string{"Content-Range": "bytes */10"}},
		{blob, "bytes=1-2,4-5", 200, "0123456789", nil},
		{blob, "lines=1-2", 200, "0123456789", nil},
		{"/v2/library/web/blobs/" + peertest.Digest(nil), "", 404, "BLOB_UNKNOWN", nil},
		{"/v2/library/web/blobs/sha256:wrong", "", 400, "DIGEST_INVALID", nil},
		{"/v2/Library/blobs/" + layer, "", 400, "NAME_INVALID", nil},
		{"/v2/library/web/tags/list", "", 404, "NAME_INVALID", nil},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			req, err := http.NewRequestWithContext(soon(t), method, "https://x"+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.rng != "" {
				req.Header.Set("Range", c.rng)
			}
			req.Header.Set("Accept-Encoding", "gzip")
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err = errors.Join(err, resp.Body.Close()); err != nil {
				t.Errorf("%s %s: %v", method, c.path, err)
			}
			if method == http.MethodHead {
				if len(body) > 0 || c.rng == "" && resp.StatusCode != c.status {
					t.Errorf("HEAD %s: status %d, %q", c.path, resp.StatusCode, body)
				}
				continue
			}
			if resp.StatusCode != c.status || !strings.Contains(string(body), c.body) || resp.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s with %q: status %d, %q, want %d", c.path, c.rng, resp.StatusCode, body, c.status)
			}
			for k, v := range c.header {
				if got := resp.Header.Get(k); got != v {
					t.Errorf("%s with %q: %s is %q, want %q", c.path, c.rng, k, got, v)
				}
			}
		}
	}
}

// If-Range with another version than is there gives the whole.
func TestIfRange(t *testing.T) {
	r := newRig(t)
	d := r.images.Put([]byte("0123456789"))
	for tag, want := range map[string]int{`"` + d + `"`: http.StatusPartialContent, `"other"`: http.StatusOK} {
		req, err := http.NewRequestWithContext(soon(t), http.MethodGet, "https://x/v2/web/blobs/"+d, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", "bytes=1-")
		req.Header.Set("If-Range", tag)
		resp, err := r.rawHTTP(t).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != want { // it is not read
			t.Errorf("If-Range: %s: status %d", tag, resp.StatusCode)
		}
	}
}
