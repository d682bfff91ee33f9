//go:build linux

package containerdtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image of one layer.
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

// NewImage makes an image of files, by their absolute paths, for this machine's
// kind of processor, or another where arch is not empty.
func NewImage(files map[string]File, config ocispec.ImageConfig, arch string) (Image, error) {
	if arch == "" {
		arch = goruntime.GOARCH
	}
	layer, err := layerOf(files)
	if err != nil {
		return Image{}, err
	}
	var packed bytes.Buffer
	gz, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // the level is a valid one
	if _, err := gz.Write(layer); err != nil {
		return Image{}, err
	}
	if err := gz.Close(); err != nil {
		return Image{}, err
	}
	img := Image{Blobs: map[digest.Digest][]byte{}}
	conf := ocispec.Image{
		Platform: ocispec.Platform{Architecture: arch, OS: "linux"},
		Config:   config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	manifest.Layers = []ocispec.Descriptor{img.add(ocispec.MediaTypeImageLayerGzip, packed.Bytes())}
	if manifest.Config, err = img.addJSON(ocispec.MediaTypeImageConfig, conf); err != nil {
		return Image{}, err
	}
	img.Manifest, err = img.addJSON(ocispec.MediaTypeImageManifest, manifest)
	return img, err
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
// given name.
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
	for d, data := range i.Blobs {
		if err := put(path.Join("blobs", d.Algorithm().String(), d.Encoded()), data); err != nil {
			return err
		}
	}
	return w.Close()
}

// Import puts an image into the daemon, in its namespace, under a full name
// such as docker.io/library/busybox:latest.
func (d *Daemon) Import(ctx context.Context, img Image, name string) error {
	c, err := d.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	var archive bytes.Buffer
	if err := img.Archive(&archive, name); err != nil {
		return err
	}
	_, err = c.Import(ctx, &archive, containerd.WithAllPlatforms(true))
	return err
}

// Busybox makes an image of Debian's busybox-static with some of its commands.
func Busybox(config ocispec.ImageConfig) (Image, error) {
	data, err := readProgram("busybox")
	if err != nil {
		return Image{}, err
	}
	files := map[string]File{
		"/bin/busybox": {Data: data, Mode: 0o755},
		"/etc/passwd":  {Data: []byte("root:x:0:0:root:/root:/bin/sh\nguest:x:405:100:guest:/tmp:/bin/sh\n"), Mode: 0o644},
		"/etc/group":   {Data: []byte("root:x:0:\nusers:x:100:\nextra:x:777:guest\n"), Mode: 0o644},
		"/tmp/.keep":   {Mode: 0o644},
	}
	for _, name := range []string{"sh", "sleep", "cat", "echo", "id", "hostname", "ls", "mount", "touch", "env", "true", "false",
		"wget", "dd", "grep", "ip", "ping", "kill", "trap", "mknod", "head", "stat", "nc", "httpd", "seq", "pwd", "tail"} {
		files["/bin/"+name] = File{Link: "busybox"}
	}
	return NewImage(files, config, "")
}

func readProgram(name string) ([]byte, error) {
	file, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// ProgramPath is where the image of [Program] has its program.
const ProgramPath = "/program"

// Program makes an image of the test program of runtimetest and nothing else.
// dir takes the program.
func Program(dir string) (Image, error) {
	return GoProgram(filepath.Join(dir, "program"), "github.com/budgiehq/budgie/internal/containerprogram", ocispec.ImageConfig{})
}

// GoProgram builds a program into file, without cgo, and makes an image of it,
// as ProgramPath, and nothing else.
func GoProgram(file, pkg string, config ocispec.ImageConfig) (Image, error) {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Image{}, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return Image{}, err
	}
	return NewImage(map[string]File{ProgramPath: {Data: data, Mode: 0o755}, "/tmp/.keep": {Mode: 0o644}}, config, "")
}
