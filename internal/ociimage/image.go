// Package ociimage makes small OCI images on the spot.
package ociimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image.
type Image struct {
	// Manifest describes the manifest, which is one of Blobs.
	Manifest ocispec.Descriptor
	// Blobs are all that the image consists of.
	Blobs map[digest.Digest][]byte
}

// File is a file, or where Link is set a symbolic link, of an image.
type File struct {
	Data []byte
	Link string
	Mode os.FileMode
}

// New makes an image of files, by their absolute paths, for this machine's
// kind of processor, or another where arch is not empty.
func New(files map[string]File, config ocispec.ImageConfig, arch string) (Image, error) {
	return Layered([]map[string]File{files}, config, arch)
}

// Layered is [New] for an image of several layers, the lowest one first. The
// same files make the same layer in every image.
func Layered(layers []map[string]File, config ocispec.ImageConfig, arch string) (Image, error) {
	if arch == "" {
		arch = runtime.GOARCH
	}
	img := Image{Blobs: map[digest.Digest][]byte{}}
	conf := ocispec.Image{
		Platform: ocispec.Platform{Architecture: arch, OS: "linux"},
		Config:   config,
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, files := range layers {
		layer, err := layerOf(files)
		if err != nil {
			return Image{}, err
		}
		packed, err := pack(layer)
		if err != nil {
			return Image{}, err
		}
		conf.RootFS.DiffIDs = append(conf.RootFS.DiffIDs, digest.FromBytes(layer))
		manifest.Layers = append(manifest.Layers, img.add(ocispec.MediaTypeImageLayerGzip, packed))
	}
	var err error
	if manifest.Config, err = img.addJSON(ocispec.MediaTypeImageConfig, conf); err != nil {
		return Image{}, err
	}
	img.Manifest, err = img.addJSON(ocispec.MediaTypeImageManifest, manifest)
	return img, err
}

func pack(layer []byte) ([]byte, error) {
	var packed bytes.Buffer
	gz, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // the level is a valid one
	if _, err := gz.Write(layer); err != nil {
		return nil, err
	}
	err := gz.Close()
	return packed.Bytes(), err
}

func (i Image) add(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	i.Blobs[d.Digest] = data
	return d
}

func (i Image) addJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	return i.add(mediaType, data), err
}

// layerOf makes a tar file, with the directories that the files are in.
func layerOf(files map[string]File) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	made := map[string]bool{"/": true, ".": true}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		if err := mkdir(path.Dir(dir)); err != nil {
			return err
		}
		mode := int64(0o755)
		if dir == "/tmp" {
			mode = 0o1777
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: mode})
	}
	names := []string{}
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f := files[name]
		if err := mkdir(path.Dir(name)); err != nil {
			return nil, err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Size: int64(len(f.Data)), Mode: int64(f.Mode)}
		if f.Link != "" {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: h.Name, Linkname: f.Link, Mode: 0o777}
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

// Archive writes the image as a tar file in the OCI image layout, under the
// given name, with the list besides by which "docker load" reads it.
func (i Image) Archive(out io.Writer, name string) error {
	w := tar.NewWriter(out)
	put := func(name string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	m := i.Manifest
	m.Annotations = map[string]string{"io.containerd.image.name": name}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{m}})
	if err != nil {
		return err
	}
	if err := put(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := put(ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	list, err := i.dockerList(name)
	if err != nil {
		return err
	}
	if err := put("manifest.json", list); err != nil {
		return err
	}
	for d, data := range i.Blobs {
		if err := put(blobPath(d), data); err != nil {
			return err
		}
	}
	return w.Close()
}

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// dockerList is the manifest.json of Docker's image archives.
func (i Image) dockerList(name string) ([]byte, error) {
	var m ocispec.Manifest
	data, ok := i.Blobs[i.Manifest.Digest]
	if !ok {
		return []byte("[]"), nil // as tests make them
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	var layers []string
	for _, l := range m.Layers {
		layers = append(layers, blobPath(l.Digest))
	}
	return json.Marshal([]any{map[string]any{"Config": blobPath(m.Config.Digest), "RepoTags": []string{name}, "Layers": layers}})
}
