//go:build linux

package containerdtest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registry is an image registry on loopback: the part of the OCI distribution
// specification by which images are pulled, and faults for tests to inject. The
// zero value has no images, and is served by whoever made it.
type Registry struct {
	// Host is its address, to be put before the names of images. Set it before
	// the first Push, where NewRegistry does not.
	Host string
	// Fault is asked before every request: if it returns true, it has
	// answered. Set it before the first request.
	Fault func(w http.ResponseWriter, req *http.Request) bool

	mu     sync.Mutex
	tags   map[string]ocispec.Descriptor // by name:tag
	blobs  map[digest.Digest][]byte
	served map[digest.Digest]int
}

// NewRegistry starts a registry that lives as long as the test.
func NewRegistry(t testing.TB) *Registry {
	r := &Registry{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.Host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// Push puts an image into the registry, and returns its full name.
func (r *Registry) Push(img ociimage.Image, name, tag string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tags == nil {
		r.tags, r.blobs, r.served = map[string]ocispec.Descriptor{}, map[digest.Digest][]byte{}, map[digest.Digest]int{}
	}
	r.tags[name+":"+tag] = img.Manifest
	for d, data := range img.Blobs {
		r.blobs[d] = data
	}
	return r.Host + "/" + name + ":" + tag
}

// Served returns how many bytes of a blob were sent.
func (r *Registry) Served(d digest.Digest) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.served[d]
}

// ServeHTTP answers GET and HEAD of manifests and blobs, whole or in ranges.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.Fault != nil && r.Fault(w, req) {
		return
	}
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	name, what, found := cutLast(path, "/manifests/")
	if !found {
		_, what, _ = cutLast(path, "/blobs/")
	}
	r.mu.Lock()
	desc, tagged := r.tags[name+":"+what]
	if !tagged {
		desc = ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.Digest(what)}
		if found {
			desc.MediaType = ocispec.MediaTypeImageManifest
		}
	}
	data, ok := r.blobs[desc.Digest]
	r.mu.Unlock()
	if !ok {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`))
		return
	}
	w.Header().Set("Content-Type", desc.MediaType)
	w.Header().Set("Docker-Content-Digest", desc.Digest.String())
	if req.Method == http.MethodGet {
		w = &counter{ResponseWriter: w, r: r, digest: desc.Digest}
	}
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
}

// counter counts what is sent of a blob.
type counter struct {
	http.ResponseWriter
	r      *Registry
	digest digest.Digest
}

// Write writes.
func (c *counter) Write(data []byte) (int, error) {
	n, err := c.ResponseWriter.Write(data)
	c.r.mu.Lock()
	c.r.served[c.digest] += n
	c.r.mu.Unlock()
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
