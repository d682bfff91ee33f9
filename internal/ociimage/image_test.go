package ociimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"path"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// untar returns what is in a tar file, by name.
func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = append(data, h.Linkname...)
	}
}

func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	return v
}

// What an archive names is all in it, under its digest, and unpacks to the files
// that the image was made of.
func TestArchive(t *testing.T) {
	img, err := New(map[string]File{
		"/bin/program": {Data: []byte("content"), Mode: 0o755},
		"/bin/link":    {Link: "program"},
	}, ocispec.ImageConfig{Entrypoint: []string{"/bin/program"}}, "riscv64")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := img.Archive(&out, "example.org/program:1"); err != nil {
		t.Fatal(err)
	}
	files := untar(t, &out)
	blob := func(d ocispec.Descriptor) []byte {
		data, ok := files[path.Join("blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())]
		if !ok || digest.FromBytes(data) != d.Digest || int64(len(data)) != d.Size {
			t.Fatalf("the archive has %d bytes for %+v", len(data), d)
		}
		return data
	}
	index := decode[ocispec.Index](t, files[ocispec.ImageIndexFile])
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations["io.containerd.image.name"] != "example.org/program:1" {
		t.Fatalf("the index is %+v", index)
	}
	manifest := decode[ocispec.Manifest](t, blob(index.Manifests[0]))
	config := decode[ocispec.Image](t, blob(manifest.Config))
	if config.Architecture != "riscv64" || config.Config.Entrypoint[0] != "/bin/program" {
		t.Errorf("the configuration is %+v", config)
	}
	list := decode[[]struct {
		Config           string
		RepoTags, Layers []string
	}](t, files["manifest.json"])
	if len(list) != 1 || list[0].RepoTags[0] != "example.org/program:1" || files[list[0].Config] == nil || files[list[0].Layers[0]] == nil {
		t.Errorf("docker load reads %+v", list)
	}
	layer, err := gzip.NewReader(bytes.NewReader(blob(manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(layer)
	if err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(plain) != config.RootFS.DiffIDs[0] {
		t.Error("the layer is not the one of the configuration")
	}
	in := untar(t, bytes.NewReader(plain))
	if string(in["bin/program"]) != "content" || string(in["bin/link"]) != "program" {
		t.Errorf("the layer has %q", in)
	}
}

// Images that have a layer in common have its blob in common.
func TestLayered(t *testing.T) {
	base := map[string]File{"/a": {Data: []byte("a")}}
	var layers [2][]ocispec.Descriptor
	for i, top := range []string{"one", "two"} {
		img, err := Layered([]map[string]File{base, {"/b": {Data: []byte(top)}}}, ocispec.ImageConfig{}, "")
		if err != nil {
			t.Fatal(err)
		}
		manifest := decode[ocispec.Manifest](t, img.Blobs[img.Manifest.Digest])
		config := decode[ocispec.Image](t, img.Blobs[manifest.Config.Digest])
		if layers[i] = manifest.Layers; len(layers[i]) != 2 || len(config.RootFS.DiffIDs) != 2 {
			t.Fatalf("image %d has the layers %+v and the configuration %+v", i, layers[i], config)
		}
		gz, err := gzip.NewReader(bytes.NewReader(img.Blobs[layers[i][1].Digest]))
		if err != nil {
			t.Fatal(err)
		}
		if files := untar(t, gz); len(files) != 1 || string(files["b"]) != top {
			t.Errorf("the upper layer of image %d has %q", i, files)
		}
	}
	if layers[0][0].Digest != layers[1][0].Digest || layers[0][1].Digest == layers[1][1].Digest {
		t.Errorf("the layers of the images are %+v", layers)
	}
}
