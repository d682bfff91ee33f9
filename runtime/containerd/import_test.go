//go:build linux

package containerd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tarOf makes a tar file.
func tarOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, data := range files {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// dockerArchive makes what "docker save" writes of an image.
func dockerArchive(t *testing.T, img ociimage.Image, tags ...string) []byte {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(img.Blobs[img.Manifest.Digest], &m); err != nil {
		t.Fatal(err)
	}
	packed, err := gzip.NewReader(bytes.NewReader(img.Blobs[m.Layers[0].Digest]))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := io.ReadAll(packed)
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": tags, "Layers": []string{"1/layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t, map[string][]byte{"manifest.json": list, "config.json": img.Blobs[m.Config.Digest], "1/layer.tar": layer})
}

func archiveOf(t *testing.T, img ociimage.Image, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := img.Archive(&out, name); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// stock lists what containerd has of images: names, blobs, and what is being
// written.
func (b *bench) stock() []string {
	b.Helper()
	c, err := b.client(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	all, err := c.ImageService().List(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	var found []string
	for _, img := range all {
		found = append(found, img.Name)
	}
	if err := c.ContentStore().Walk(b.ctx, func(info content.Info) error {
		found = append(found, info.Digest.String())
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	writing, err := c.ContentStore().ListStatuses(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	for _, st := range writing {
		found = append(found, "writing "+st.Ref)
	}
	slices.Sort(found)
	return found
}

// notImported checks that an archive is refused, with all of the texts, and
// that nothing is left of it.
func (b *bench) notImported(archive io.Reader, texts ...string) error {
	b.Helper()
	before := b.stock()
	names, err := b.Import(b.ctx, archive)
	if err == nil {
		b.Fatalf("it is imported as %q; want an error with %q", names, texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			b.Errorf("the error is %q; want %q in it", err, text)
		}
	}
	if after := b.stock(); !slices.Equal(before, after) {
		b.Errorf("%v leaves %q, where there was %q", err, after, before)
	}
	empty(b.T, daemon(b.T))
	return err
}

// Images come in from archives of both kinds, run, and go again without a trace.
func TestImport(t *testing.T) {
	b := newBench(t)
	empty(t, daemon(t)) // has containerd collect what other tests left to it
	before := b.stock()
	img := registryImage(t, "")
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, err := zip.Write(archiveOf(t, img, "docker.io/library/packed:latest"))
	if err := errors.Join(err, zip.Close()); err != nil {
		t.Fatal(err)
	}
	for _, archive := range []struct {
		what string
		data []byte
		want []string
	}{
		{"layout", archiveOf(t, img, "example.org/team/tool:1"), []string{"example.org/team/tool:1"}},
		{"short name, compressed", packed.Bytes(), []string{"docker.io/library/packed:latest"}},
		{"docker", dockerArchive(t, img, "tool:2", "example.org/tool:3"), []string{"docker.io/library/tool:2", "example.org/tool:3"}},
	} {
		t.Run(archive.what, func(t *testing.T) {
			for range 2 { // the second time it replaces the first
				names, err := b.Import(b.ctx, bytes.NewReader(archive.data))
				if err != nil || !slices.Equal(names, archive.want) {
					t.Fatalf("Import: %q, %v", names, err)
				}
			}
			empty(t, daemon(t))
			for _, name := range archive.want {
				if exit, out := b.end(fromRegistry(name)); exit.Code != 0 {
					t.Errorf("%s ended with %d: %s", name, exit.Code, out)
				}
				for range 2 {
					if err := b.RemoveImage(b.ctx, name); err != nil {
						t.Errorf("RemoveImage: %v", err)
					}
				}
			}
			if after := b.stock(); !slices.Equal(before, after) {
				t.Errorf("after all this there is %q, where there was %q", after, before)
			}
		})
	}
}

func TestImportRefused(t *testing.T) {
	b := newBench(t)
	empty(t, daemon(t)) // has containerd collect what other tests left to it
	img, foreign := registryImage(t, ""), registryImage(t, "s390x")
	b.notImported(strings.NewReader(""), "read the archive")
	b.notImported(strings.NewReader("no archive at all"), "read the archive")
	b.notImported(bytes.NewReader(tarOf(t, map[string][]byte{"file": []byte("content")})), "read the archive")
	b.notImported(bytes.NewReader(tarOf(t, map[string][]byte{
		ocispec.ImageLayoutFile: []byte(`{"imageLayoutVersion":"1.0.0"}`), ocispec.ImageIndexFile: []byte(`{"manifests":[]}`),
	})), "no image")
	b.notImported(bytes.NewReader(archiveOf(t, img, "")), "no name")
	b.notImported(bytes.NewReader(dockerArchive(t, img)), "no name")
	b.notImported(bytes.NewReader(archiveOf(t, img, "Not A Reference")), "Not A Reference")
	for _, data := range [][]byte{archiveOf(t, foreign, "example.org/tool:1"), dockerArchive(t, foreign, "tool:1")} {
		if err := b.notImported(bytes.NewReader(data), "s390x", "tool:1"); !errors.Is(err, ErrPlatform) {
			t.Errorf("the error is %v; want ErrPlatform", err)
		}
	}
	broken := errors.New("the disk is on fire")
	data := archiveOf(t, img, "example.org/tool:1")
	err := b.notImported(io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("the error is %v; want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	interrupted := io.MultiReader(bytes.NewReader(data[:len(data)/2]), reading(func() { cancel() }), bytes.NewReader(data[len(data)/2:]))
	if _, err := b.Import(ctx, interrupted); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, Import returns %v", err)
	}
	empty(t, daemon(t))
}

// reading is an empty reader that calls a function.
type reading func()

func (f reading) Read([]byte) (int, error) { f(); return 0, io.EOF }

// An archive that is cut off, or lacks any one of its blobs, is refused, leaves
// nothing, and does not spoil the whole one that comes after it.
func TestImportCut(t *testing.T) {
	b := newBench(t)
	empty(t, daemon(t)) // has containerd collect what other tests left to it
	img := registryImage(t, "")
	const name = "example.org/team/cut:1"
	whole := archiveOf(t, img, name)
	const parts = 12
	for i := 1; i < parts; i++ {
		b.notImported(bytes.NewReader(whole[:len(whole)*i/parts]))
	}
	for missing := range img.Blobs {
		part := ociimage.Image{Manifest: img.Manifest, Blobs: map[digest.Digest][]byte{}}
		for d, data := range img.Blobs {
			if d != missing {
				part.Blobs[d] = data
			}
		}
		b.notImported(bytes.NewReader(archiveOf(t, part, name)), "not complete")
	}
	before := b.stock()
	if _, err := b.Import(b.ctx, bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	if exit, out := b.end(fromRegistry(name)); exit.Code != 0 {
		t.Errorf("it ended with %d: %s", exit.Code, out)
	}
	if err := b.RemoveImage(b.ctx, name); err != nil {
		t.Error(err)
	}
	if after := b.stock(); !slices.Equal(before, after) {
		t.Errorf("after all this there is %q, where there was %q", after, before)
	}
}
