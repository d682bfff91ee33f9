package peer_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/runtime"
)

// suite builds the conformance suite that tools/conformance pins.
func suite(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "conformance")
	cmd := exec.CommandContext(soon(t), "go", "build", "-o", program, "github.com/opencontainers/distribution-spec/conformance")
	cmd.Dir = filepath.Join("..", "tools", "conformance")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		testenv.Skip(t, fmt.Sprintf("the OCI distribution conformance suite cannot be built, which needs the network once: %v\n%s", err, out))
	}
	return program
}

// The pull workflow of the OCI distribution conformance suite, through a proxy
// that is a member of the flock and speaks in clear to the suite.
func TestOCIConformancePull(t *testing.T) {
	program := suite(t)
	r := newRig(t)
	const repo = "conformance/repo1"
	img, root := r.putImage(t, "docker.io/"+repo+":image")
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{img.Manifest},
	})
	if err != nil {
		t.Fatal(err)
	}
	indexDigest := r.images.Put(index)
	r.images.Tag("docker.io/"+repo+":index", runtime.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: indexDigest, Size: int64(len(index))})
	var blobs []string
	for d := range img.Blobs {
		if d.String() != root.Digest {
			blobs = append(blobs, d.String())
		}
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: r.rawHTTP(t),
		Rewrite:   func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = "https", "peer" },
	})
	defer proxy.Close()

	results := t.TempDir()
	cmd := exec.CommandContext(soon(t), program)
	cmd.Dir = results
	for k, v := range map[string]string{
		"RESULTS_DIR": results, "VERSION": "1.1", "TLS": "disabled",
		"REGISTRY": strings.TrimPrefix(proxy.URL, "http://"), "REPO1": repo, "REPO2": "conformance/repo2",
		"RO_DATA_TAGS": "image index", "RO_DATA_MANIFESTS": root.Digest + " " + indexDigest, "RO_DATA_BLOBS": strings.Join(blobs, " "),
		"API_PULL": "true", "API_BLOBS_DIGEST_HEADER": "true",
		// The suite does not keep the headers of manifests that it did not push.
		"API_MANIFESTS_DIGEST_HEADER": "false",
		// A peer's images are there to be read, by those who know their names.
		"API_PUSH": "false", "API_BLOBS_DELETE": "false", "API_MANIFESTS_DELETE": "false", "API_TAGS_DELETE": "false",
		"API_TAGS_LIST": "false", "API_REFERRER": "false",
	} {
		cmd.Env = append(cmd.Env, "OCI_"+k+"="+v)
	}
	// Its exit status says nothing: it panics when it writes what it has printed
	// into a file, where it was not to push.
	out, _ := cmd.CombinedOutput()
	passed := make(map[string]int)
	for line := range strings.Lines(string(out)) {
		name, result, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "OCI Conformance Test/"), ": ")
		switch result {
		case "Pass":
			passed[name]++
		case "FAIL", "Error", "Skip":
			t.Errorf("%s: %s", name, result)
		}
	}
	for name, want := range map[string]int{
		"ping":                                   1,
		"read-only/head/manifest-head-by-tag":    2,
		"read-only/head/manifest-head-by-digest": 2,
		"read-only/head/blob-head":               len(blobs),
		"read-only/pull/manifest-by-tag":         2,
		"read-only/pull/manifest-by-digest":      2,
		"read-only/pull/blob-get":                len(blobs),
		"missing-manifest/by-digest":             1,
		"missing-manifest/by-tag":                1,
		"invalid-digest-format/manifest-get":     1,
	} {
		if passed[name] != want {
			t.Errorf("%s passed %d times, want %d", name, passed[name], want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
