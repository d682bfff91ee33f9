package peer

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestImagePaths(t *testing.T) {
	long := strings.Repeat("a", 256)
	for _, c := range []struct {
		path, ns string
		want     imageRequest
		code     string
	}{
		{"/v2/web/manifests/latest", "", imageRequest{kind: kindManifests, image: "docker.io/library/web:latest"}, ""},
		{"/v2/team/web/manifests/v1.0_x-2", "", imageRequest{kind: kindManifests, image: "docker.io/team/web:v1.0_x-2"}, ""},
		{"/v2/ghcr.io/team/web/manifests/1", "", imageRequest{kind: kindManifests, image: "ghcr.io/team/web:1"}, ""},
		{"/v2/team/web/manifests/1", "ghcr.io", imageRequest{kind: kindManifests, image: "ghcr.io/team/web:1"}, ""},
		{"/v2/team/web/manifests/1", "localhost:5000", imageRequest{kind: kindManifests, image: "localhost:5000/team/web:1"}, ""},
		{"/v2/team/web/manifests/1", "[fd00::1]:5000", imageRequest{kind: kindManifests, image: "[fd00::1]:5000/team/web:1"}, ""},
		{"/v2/manifests/manifests/blobs/manifests/blobs", "", imageRequest{kind: kindManifests, image: "docker.io/manifests/manifests/blobs:blobs"}, ""},
		{"/v2/web/manifests/" + someDigest, "", imageRequest{kind: kindManifests, digest: someDigest}, ""},
		{"/v2/web/blobs/" + someDigest, "", imageRequest{kind: kindBlobs, digest: someDigest}, ""},

		{"/v2/web/blobs/latest", "", imageRequest{}, codeDigestInvalid},
		{"/v2/web/manifests/sha256:totallywrong", "", imageRequest{}, codeDigestInvalid},
		{"/v2/web/blobs/" + strings.ToUpper(someDigest), "", imageRequest{}, codeDigestInvalid},
		{"/v2/web/blobs/" + someDigest + "0", "", imageRequest{}, codeDigestInvalid},
		{"/v2/web/manifests/..", "", imageRequest{}, codeManifestInvalid},
		{"/v2/web/manifests/-x", "", imageRequest{}, codeManifestInvalid},
		{"/v2/web/manifests/" + strings.Repeat("t", 129), "", imageRequest{}, codeManifestInvalid},
		{"/v2/../etc/blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2/web/../../x/blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2//web/blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2/web//blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2/a%2fb/blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2/a\x00b/blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2/Web/blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2/a\\b/blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2/" + long + "/blobs/" + someDigest, "", imageRequest{}, codeNameInvalid},
		{"/v2/" + someDigest[7:] + "/manifests/x", "", imageRequest{}, codeNameInvalid},
		{"/v2/web/manifests/1", "ghcr.io/evil", imageRequest{}, codeNameInvalid},
		{"/v2/web/manifests/1", "evil", imageRequest{}, codeNameInvalid},
		{"/v2/web/manifests/1", "..", imageRequest{}, codeNameInvalid},
		{"/v2/web/manifests/1", "a b", imageRequest{}, codeNameInvalid},
	} {
		got, err := parseImagePath(c.path, c.ns)
		ce, _ := errors.AsType[*codedError](err)
		switch {
		case c.code == "" && (err != nil || got != c.want):
			t.Errorf("%q, %q: %+v, %v", c.path, c.ns, got, err)
		case c.code != "" && (ce == nil || ce.code != c.code):
			t.Errorf("%q, %q: %+v, %v, want %s", c.path, c.ns, got, err, c.code)
		}
	}
	for _, path := range []string{"", "/", "/v2", "/v2/", "/v2/web", "/v2/web/manifests/", "/v2/manifests/x", "/v2/web/tags/list", "/v2/web/blobs/uploads/",
		"/v2/" + long + long + "/blobs/" + someDigest} {
		if got, err := parseImagePath(path, ""); !errors.Is(err, errNoPath) {
			t.Errorf("%q: %+v, %v", path, got, err)
		}
	}
}

// Whatever comes as a path: what is made of it is harmless, and what the client
// makes of a name comes back as the same image.
func FuzzImagePath(f *testing.F) {
	f.Add("/v2/web/manifests/latest", "")
	f.Add("/v2/team/web/blobs/"+someDigest, "localhost:5000")
	f.Add("/v2/../x/blobs/"+someDigest, "../")
	f.Add("/v2/a%2f..%2fb/manifests/x\x00", "[::1]:1")
	f.Fuzz(func(t *testing.T, path, ns string) {
		r, err := parseImagePath(path, ns)
		if err != nil {
			if ce, ok := errors.AsType[*codedError](err); ok && ce.code == "" || !ok && !errors.Is(err, errNoPath) {
				t.Errorf("got %v", err)
			}
			return
		}
		if (r.image == "") == (r.digest == "") || r.digest != "" && !isDigest(r.digest) || r.kind == kindBlobs && r.digest == "" {
			t.Fatalf("got %+v", r)
		}
		if strings.Contains(r.image, "..") || strings.ContainsAny(r.image, "%\\\x00 ?#@") || r.image != "" && !isReference(r.image) && len(r.image) <= maxReference {
			t.Errorf("got image %q", r.image)
		}
		if r.image == "" || len(r.image) > maxReference {
			return
		}
		u, err := urlOf(r.image)
		if err != nil {
			t.Fatalf("%q cannot be asked for: %v", r.image, err)
		}
		q, err := url.ParseQuery(u.query)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseImagePath(u.base+kindManifests+"/"+u.ref, q.Get("ns")); err != nil && len(u.base) < maxName || err == nil && back.image != r.image {
			t.Errorf("%q comes back as %+v, %v", r.image, back, err)
		}
	})
}

// Whatever somebody types in as an image's name.
func FuzzImageName(f *testing.F) {
	for _, s := range []string{"web", "ghcr.io/a/b:1", "web@" + someDigest, someDigest, "a/../b", "[::1]:5000/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		u, err := urlOf(name)
		if err != nil {
			return
		}
		p := u.at("host", kindManifests, u.ref)
		if p.EscapedPath() != p.Path || strings.Contains(p.Path, "..") {
			t.Errorf("%q is asked for at %q", name, p)
		}
		if _, err := parseImagePath(p.Path, p.Query().Get("ns")); err != nil && len(p.Path) <= maxPath && len(u.base) < maxName {
			t.Errorf("%q at %q: %v", name, p, err)
		}
	})
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		header string
		size   int64
		want   byteRange
		part   bool
		err    error
	}{
		{"", 10, byteRange{0, 10}, false, nil},
		{"bytes=0-", 10, byteRange{0, 10}, true, nil},
		{"bytes=0-0", 10, byteRange{0, 1}, true, nil},
		{"bytes=9-", 10, byteRange{9, 1}, true, nil},
		{"bytes=5-99", 10, byteRange{5, 5}, true, nil},
		{"bytes=5-99999999999999999999999999", 10, byteRange{5, 5}, true, nil},
		{"bytes=-3", 10, byteRange{7, 3}, true, nil},
		{"bytes=-30", 10, byteRange{0, 10}, true, nil},
		{"bytes=10-", 10, byteRange{}, false, errRange},
		{"bytes=99999999999999999999999999-", 10, byteRange{}, false, errRange},
		{"bytes=-0", 10, byteRange{}, false, errRange},
		{"bytes=0-", 0, byteRange{}, false, errRange},
		{"bytes=-1", 0, byteRange{}, false, errRange},
		{"bytes=4-3", 10, byteRange{0, 10}, false, nil},
		{"bytes=+1-2", 10, byteRange{0, 10}, false, nil},
		{"bytes=1--2", 10, byteRange{0, 10}, false, nil},
		{"bytes=-", 10, byteRange{0, 10}, false, nil},
		{"bytes=x-", 10, byteRange{0, 10}, false, nil},
		{"bytes= 1-2", 10, byteRange{0, 10}, false, nil},
		{"bytes=1-2,3-4", 10, byteRange{0, 10}, false, nil},
		{"bytes", 10, byteRange{0, 10}, false, nil},
	} {
		r, part, err := parseRange(c.header, c.size)
		if r != c.want || part != c.part || !errors.Is(err, c.err) {
			t.Errorf("%q of %d: %+v, %v, %v", c.header, c.size, r, part, err)
		}
	}
}

// Whatever is asked for, what is sent lies within what is there.
func FuzzRange(f *testing.F) {
	f.Add("bytes=0-1", int64(10))
	f.Add("bytes=-99999999999999999999", int64(0))
	f.Add("bytes=9223372036854775807-9223372036854775807", int64(1<<62))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		r, part, err := parseRange(header, size)
		switch {
		case err != nil && (part || r != byteRange{}):
			t.Errorf("%q of %d: %+v, %v", header, size, r, err)
		case err == nil && !part && r != byteRange{0, size}:
			t.Errorf("%q of %d: %+v is not all", header, size, r)
		case part && (r.from < 0 || r.length <= 0 || r.from > size-r.length):
			t.Errorf("%q of %d: %+v", header, size, r)
		}
	})
}
