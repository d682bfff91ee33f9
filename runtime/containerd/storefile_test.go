//go:build linux

package containerd

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/opencontainers/go-digest"
)

// A blob is read from the file in which containerd has it, and where that cannot
// be had, through containerd.
func TestBlobsAreReadFromTheirFiles(t *testing.T) {
	b := newBench(t)
	img := random(t, 3<<20)
	const name = "docker.io/library/files:latest"
	if err := daemon(t).Import(b.ctx, img, name); err != nil {
		t.Fatal(err)
	}
	read := func(d digest.Digest, file bool) {
		t.Helper()
		blob, err := b.OpenBlob(b.ctx, d.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, is := blob.(fileBlob); is != file {
			t.Errorf("the blob is a %T", blob)
		}
		got := make([]byte, len(img.Blobs[d]))
		if n, err := blob.ReadAt(got, 0); n != len(got) || !bytes.Equal(got, img.Blobs[d]) {
			t.Errorf("%d of %d bytes, or others: %v", n, len(got), err)
		}
		if err := blob.Close(); err != nil {
			t.Error(err)
		}
	}
	other := t.TempDir()
	if err := os.MkdirAll(filepath.Join(other, "blobs", "sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	for d := range img.Blobs {
		read(d, true)
		at := filepath.Join(other, "blobs", "sha256", d.Encoded())
		own := b.content.Swap(&other)
		read(d, false) // there is none
		if err := os.WriteFile(at, []byte("short"), 0o600); err != nil {
			t.Fatal(err)
		}
		read(d, false)
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		read(d, false)
		b.content.Store(own)
	}
	if err := b.RemoveImage(b.ctx, name); err != nil {
		t.Fatal(err)
	}
}

// Every containerd says where its files are.
func TestContentDirectory(t *testing.T) {
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		d, err := containerdtest.StartVersion(v, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Kill)
		r := open(t, d, t.TempDir())
		c, err := r.client(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dir, err := r.contentDir(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(d.Dir, "root", contentType+".content"); dir != want {
			t.Errorf("the files are in %s, not in %s", dir, want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
