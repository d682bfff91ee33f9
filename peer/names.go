package peer

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// Both as in the OCI distribution specification, section "Pulling manifests".
var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// The kinds of things below /v2/NAME/.
const (
	kindManifests = "manifests"
	kindBlobs     = "blobs"
)

// anyRepository stands in paths where an image is named by its digest alone.
const anyRepository = "any"

// The codes of errors, as in the OCI distribution specification, section "Error
// codes".
const (
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeDenied          = "DENIED"
	codeDigestInvalid   = "DIGEST_INVALID"
	codeManifestInvalid = "MANIFEST_INVALID"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeNameInvalid     = "NAME_INVALID"
	codeTooMany         = "TOOMANYREQUESTS"
	codeUnsupported     = "UNSUPPORTED"
)

// codedError is an error with one of the codes.
type codedError struct {
	code string
	err  error
}

// Error implements error.
func (e *codedError) Error() string { return e.err.Error() }

func coded(code, format string, args ...any) error {
	return &codedError{code, fmt.Errorf(format, args...)}
}

// errNoPath: a path means nothing.
var errNoPath = errors.New("there is nothing at this path")

// imageRequest is what a path below /v2/ asks for.
type imageRequest struct {
	// kind is kindManifests or kindBlobs.
	kind string
	// image is the full reference of an image, with its tag, if that is what
	// was asked for, and digest a digest otherwise.
	image, digest string
}

// parseImagePath reads a path below /v2/ and the value of the query ns, which
// may be empty. The path is as it came: nothing in it is decoded, and what
// would need it is refused. The error is a codedError or errNoPath.
func parseImagePath(path, ns string) (imageRequest, error) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok || len(path) > maxPath {
		return imageRequest{}, errNoPath
	}
	rest, ref := cutLast(rest)
	name, kind := cutLast(rest)
	if kind != kindManifests && kind != kindBlobs || name == "" || ref == "" {
		return imageRequest{}, errNoPath
	}
	if len(name) > maxName || !repositoryPattern.MatchString(name) {
		return imageRequest{}, coded(codeNameInvalid, "the name is not one of a repository")
	}
	repository, err := qualified(ns, name)
	if err != nil {
		return imageRequest{}, err
	}
	switch {
	case isDigest(ref):
		return imageRequest{kind: kind, digest: ref}, nil
	case kind == kindBlobs || strings.Contains(ref, ":"):
		return imageRequest{}, coded(codeDigestInvalid, "the digest is not sha256: and 64 hexadecimal characters")
	case !tagPattern.MatchString(ref):
		return imageRequest{}, coded(codeManifestInvalid, "the reference is neither a tag nor a digest")
	}
	return imageRequest{kind: kind, image: repository + ":" + ref}, nil
}

// qualified returns the full name of a repository, with its registry.
func qualified(ns, name string) (string, error) {
	text := name
	if ns != "" {
		text = ns + "/" + name
	}
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil || !reference.IsNameOnly(named) {
		return "", coded(codeNameInvalid, "the name is not one of a repository")
	}
	if ns != "" && reference.Domain(named) != ns {
		return "", coded(codeNameInvalid, "ns is not a registry's host[:port]")
	}
	return named.Name(), nil
}

// cutLast cuts a path before its last element.
func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// imageURL is where an image is: the path up to the kind, the query, and the
// reference of its root.
type imageURL struct {
	base, query, ref string
}

// urlOf returns where the image with a name is, which is as in
// image.docker_image or a digest. One with a tag and a digest is asked for by
// the digest.
func urlOf(name string) (imageURL, error) {
	if isDigest(name) {
		return imageURL{base: "/v2/" + anyRepository + "/", ref: name}, nil
	}
	if len(name) > maxReference {
		return imageURL{}, fmt.Errorf("image %q…: its reference has more than %d characters", name[:32], maxReference)
	}
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return imageURL{}, fmt.Errorf("image %q: %w", name, err)
	}
	u := imageURL{
		base:  "/v2/" + reference.Path(named) + "/",
		query: url.Values{"ns": {reference.Domain(named)}}.Encode(),
	}
	switch n := named.(type) {
	case reference.Digested:
		if u.ref = n.Digest().String(); !isDigest(u.ref) {
			return imageURL{}, fmt.Errorf("image %q: peers have digests of sha256 only", name)
		}
	case reference.Tagged:
		u.ref = n.Tag()
	}
	return u, nil
}

// at returns the URL of a part on a host.
func (u imageURL) at(host, kind, ref string) *url.URL {
	return &url.URL{Scheme: "https", Host: host, Path: u.base + kind + "/" + ref, RawQuery: u.query}
}
