package peer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

// image answers what is below /v2/.
func (s *Server) image(w http.ResponseWriter, r *http.Request, path string) {
	req, err := parseImagePath(path, r.URL.Query().Get("ns"))
	if c, ok := errors.AsType[*codedError](err); ok {
		fail(w, http.StatusBadRequest, c.code, c.Error())
		return
	}
	if err != nil {
		fail(w, http.StatusNotFound, codeNameInvalid, err.Error())
		return
	}
	if req.kind == kindBlobs {
		s.blob(w, r, req.digest)
		return
	}
	s.manifest(w, r, req)
}

// absent answers for what is not there, with the reason: it may name a setting
// by which a runtime discarded it.
func (s *Server) absent(w http.ResponseWriter, r *http.Request, code string, err error) {
	if !errors.Is(err, runtime.ErrNoBlob) {
		s.broken(w, r, err)
		return
	}
	fail(w, http.StatusNotFound, code, err.Error())
}

// manifest sends an index or a manifest.
func (s *Server) manifest(w http.ResponseWriter, r *http.Request, req imageRequest) {
	d, data, err := s.findManifest(r.Context(), req)
	if err != nil {
		s.absent(w, r, codeManifestUnknown, err)
		return
	}
	w.Header().Set("Docker-Content-Digest", d.Digest)
	w.Header().Set("ETag", `"`+d.Digest+`"`)
	s.send(w, d.MediaType, data)
}

// findManifest asks the node's runtimes in order for a manifest, and verifies
// what it got.
func (s *Server) findManifest(ctx context.Context, req imageRequest) (runtime.Descriptor, []byte, error) {
	reason := errNoImages
	for _, src := range s.node.Images() {
		name := req.image
		if name == "" {
			name = req.digest
		}
		d, err := src.Image(ctx, name)
		if errors.Is(err, runtime.ErrNoBlob) && req.digest != "" {
			// A manifest of an index is no root.
			d, err = runtime.Descriptor{Digest: req.digest}, nil
		}
		var data []byte
		if err == nil {
			data, err = readManifest(ctx, src, d.Digest)
		}
		if err == nil && d.MediaType == "" {
			d.MediaType, err = manifestType(data)
		}
		if err == nil && !isMediaType(d.MediaType) {
			err = fmt.Errorf("manifest %s has the media type %q", d.Digest, plain(d.MediaType, maxText))
		}
		if err == nil {
			return d, data, nil
		}
		reason = worse(reason, err)
	}
	return runtime.Descriptor{}, nil, reason
}

// errNoImages is why there is nothing where no runtime has images.
var errNoImages = fmt.Errorf("%w: no runtime of this node has images", runtime.ErrNoBlob)

// worse returns what to say of a part that several runtimes do not hand out: one
// that could not say whether it has it counts more than those that have not.
func worse(reason, err error) error {
	switch {
	case reason == errNoImages || errors.Is(reason, runtime.ErrNoBlob) && !errors.Is(err, runtime.ErrNoBlob):
		return err
	case errors.Is(reason, runtime.ErrNoBlob):
		return fmt.Errorf("%w; %w", reason, err)
	}
	return reason
}

// readManifest reads a manifest and verifies it.
func readManifest(ctx context.Context, src runtime.ImageSource, digest string) ([]byte, error) {
	if !isDigest(digest) {
		return nil, fmt.Errorf("a root has the digest %q, and peers have those of sha256 only", plain(digest, maxText))
	}
	b, err := src.OpenBlob(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	size := b.Size()
	if size > maxManifest {
		return nil, fmt.Errorf("%s has %d bytes, more than any manifest: %w", digest, size, runtime.ErrNoBlob)
	}
	data, err := io.ReadAll(io.NewSectionReader(b, 0, size))
	if err != nil {
		return nil, err
	}
	if digestOf(data) != digest {
		return nil, fmt.Errorf("what the image store has as %s is something else: it is damaged", digest)
	}
	return data, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// manifestType says of what media type a manifest is. It may say so itself;
// where it does not, it is one of OCI (image specification, manifest.md and
// image-index.md), which its members tell apart.
func manifestType(data []byte) (string, error) {
	var m struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
	}
	err := json.Unmarshal(data, &m)
	switch {
	case err != nil || m.SchemaVersion != 2:
	case m.MediaType != "" && (m.Manifests != nil || m.Config != nil):
		return m.MediaType, nil
	case m.Manifests != nil:
		return "application/vnd.oci.image.index.v1+json", nil
	case m.Config != nil:
		return "application/vnd.oci.image.manifest.v1+json", nil
	}
	return "", fmt.Errorf("it is no manifest: %w", runtime.ErrNoBlob)
}

// isMediaType reports whether s fits in a header as a media type without
// parameters.
func isMediaType(s string) bool {
	t, params, err := mime.ParseMediaType(s)
	return err == nil && len(s) <= 128 && len(params) == 0 && len(t) == len(s)
}

// blob sends a part of an image, or a range of it.
func (s *Server) blob(w http.ResponseWriter, r *http.Request, digest string) {
	b, err := s.openBlob(r.Context(), digest)
	if err != nil {
		s.absent(w, r, codeBlobUnknown, err)
		return
	}
	defer b.Close()
	h, size, tag := w.Header(), b.Size(), `"`+digest+`"`
	h.Set("Docker-Content-Digest", digest)
	h.Set("ETag", tag)
	h.Set("Accept-Ranges", "bytes")
	wanted := r.Header.Get("Range")
	if unless := r.Header.Get("If-Range"); unless != "" && unless != tag || r.Method != http.MethodGet {
		wanted = "" // RFC 9110 sections 13.1.5 and 14.2
	}
	part, partial, err := parseRange(wanted, size)
	if err != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		fail(w, http.StatusRequestedRangeNotSatisfiable, codeUnsupported, err.Error())
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(part.length, 10))
	status := http.StatusOK
	if partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, part.from+part.length-1, size))
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		s.copyBlob(w, b, part)
	}
}

// openBlob asks the node's runtimes in order.
func (s *Server) openBlob(ctx context.Context, digest string) (runtime.Blob, error) {
	reason := errNoImages
	for _, src := range s.node.Images() {
		b, err := src.OpenBlob(ctx, digest)
		if err == nil {
			return b, nil
		}
		reason = worse(reason, err)
	}
	return nil, reason
}

// copyBlob sends a part of a blob. Each piece must be taken within the limit,
// however large the whole is.
func (s *Server) copyBlob(w http.ResponseWriter, b runtime.Blob, part byteRange) {
	rc := http.NewResponseController(w)
	buf := make([]byte, min(writeSize, max(part.length, 1)))
	for at, end := part.from, part.from+part.length; at < end; {
		n, err := b.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		if n == 0 {
			s.log.Warn("a part of an image could not be read to its end", "error", err)
			panic(http.ErrAbortHandler) // the other side must not take it for the whole
		}
		if err := rc.SetWriteDeadline(time.Now().Add(s.limits.write)); err != nil {
			return
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return // who asked has gone, or reads too slowly
		}
		at += int64(n)
	}
}
