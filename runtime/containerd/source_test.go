//go:build linux

package containerd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// indexOf makes an index of images by their architectures. Its blobs are those
// of the images but what is for this machine is of all that there is, as in
// containerd.
func indexOf(t testing.TB, of map[string]ociimage.Image) ociimage.Image {
	t.Helper()
	out := ociimage.Image{Blobs: map[digest.Digest][]byte{}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for arch, img := range of {
		m := img.Manifest
		m.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		index.Manifests = append(index.Manifests, m)
		for d, data := range img.Blobs {
			out.Blobs[d] = data
		}
	}
	out.Manifest = put(t, out.Blobs, ocispec.MediaTypeImageIndex, index)
	return out
}

// read reads a blob of the runtime in small pieces.
func (b *bench) read(id string) ([]byte, error) {
	blob, err := b.OpenBlob(b.ctx, id)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size()))
	return data, errors.Join(err, blob.Close())
}

// What a runtime has of an image is handed out, by any name of it, and nothing
// else of what is in containerd.
func TestImageSource(t *testing.T) {
	b := newBench(t)
	img := stack(t, random(t, 3<<20), random(t, 1<<10))
	const name = "docker.io/library/source:latest"
	if err := daemon(t).Import(b.ctx, img, name); err != nil {
		t.Fatal(err)
	}
	for _, alias := range []string{"source", "source:latest", name, img.Manifest.Digest.String(), "source@" + img.Manifest.Digest.String()} {
		if got, err := b.Image(b.ctx, alias); err != nil || got != rootOf(img) {
			t.Errorf("%s is %+v, %v; want %+v", alias, got, err, rootOf(img))
		}
	}
	for _, alias := range []string{"source:1", "example.org/source", digest.FromString("nothing").String(), "source@" + digest.FromString("nothing").String()} {
		if got, err := b.Image(b.ctx, alias); !errors.Is(err, runtime.ErrNoBlob) {
			t.Errorf("%s is %+v, %v", alias, got, err)
		}
	}
	if _, err := b.Image(b.ctx, "Not A Name"); err == nil || errors.Is(err, runtime.ErrNoBlob) {
		t.Errorf("what is no name gives %v", err)
	}
	for d, want := range img.Blobs {
		for range 2 { // the second time it is known whose it is
			if data, err := b.read(d.String()); err != nil || !bytes.Equal(data, want) {
				t.Errorf("%d bytes of a blob of %d, %v", len(data), len(want), err)
			}
		}
	}
	nobodys := b.unowned()
	for _, id := range []string{digest.FromString("nothing").String(), nobodys} {
		if _, err := b.OpenBlob(b.ctx, id); !errors.Is(err, runtime.ErrNoBlob) {
			t.Errorf("what belongs to no image gives %v", err)
		}
	}
	for _, id := range []string{"", "../../etc/passwd", "sha256:12", strings.Repeat("a", 64)} {
		if _, err := b.OpenBlob(b.ctx, id); err == nil || errors.Is(err, runtime.ErrNoBlob) {
			t.Errorf("%q gives %v", id, err)
		}
	}
	if err := b.RemoveImage(b.ctx, name); err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenBlob(b.ctx, img.Manifest.Digest.String()); !errors.Is(err, runtime.ErrNoBlob) {
		t.Errorf("a part of an image that was removed gives %v", err)
	}
}

// unowned puts a blob into containerd that belongs to no image.
func (b *bench) unowned() string {
	b.Helper()
	c, err := b.client(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	ctx, release, err := c.WithLease(b.ctx, leases.WithRandomID())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := release(b.ctx); err != nil {
			b.Error(err)
		}
	})
	data := []byte("of no concern to others")
	d := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := content.WriteBlob(ctx, c.ContentStore(), "unowned", bytes.NewReader(data), d); err != nil {
		b.Fatal(err)
	}
	return d.Digest.String()
}

// Case I2: of a layer that containerd has discarded it is said which setting did
// that.
func TestCaseI2SourceOfDiscardedLayers(t *testing.T) {
	b := newBench(t)
	img := stack(t, random(t, 1<<10), random(t, 1<<10))
	const name = "docker.io/library/discarded:latest"
	if err := daemon(t).Import(b.ctx, img, name); err != nil {
		t.Fatal(err)
	}
	c, err := b.client(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	// What the CRI plugin does: the manifest keeps its configuration alone.
	m, _ := parts(t, img)
	labels := map[string]string{"containerd.io/gc.ref.content.config": m.Config.Digest.String()}
	if _, err := c.ContentStore().Update(b.ctx, content.Info{Digest: img.Manifest.Digest, Labels: labels}, "labels"); err != nil {
		t.Fatal(err)
	}
	empty(t, daemon(t)) // has containerd collect the layers
	for _, l := range layersOf(t, img) {
		_, err := b.OpenBlob(b.ctx, l.String())
		if !errors.Is(err, runtime.ErrNoBlob) || !strings.Contains(err.Error(), "discard_unpacked_layers") || !strings.Contains(err.Error(), name) {
			t.Errorf("a layer that was discarded gives %v", err)
		}
	}
	if _, err := b.read(m.Config.Digest.String()); err != nil {
		t.Error(err)
	}
	if err := b.RemoveImage(b.ctx, name); err != nil {
		t.Fatal(err)
	}
}

// Of an index that names more than there is, the part for this machine is
// fetched, and handed out in turn.
func TestFetchOfSparseIndex(t *testing.T) {
	b := newBench(t)
	own := random(t, 1<<20)
	foreign, err := ociimage.New(map[string]ociimage.File{"/data": {Data: []byte("x"), Mode: 0o644}}, ocispec.ImageConfig{}, "s390x")
	if err != nil {
		t.Fatal(err)
	}
	_, config := parts(t, own)
	index := indexOf(t, map[string]ociimage.Image{config.Architecture: own, "s390x": foreign})
	for d := range foreign.Blobs {
		delete(index.Blobs, d)
	}
	name := unreachable + "sparse:1"
	b.fetched(name, index, having("a", index))
	if root, err := b.Image(b.ctx, name); err != nil || root != rootOf(index) {
		t.Errorf("the image is %+v, %v", root, err)
	}
	for d := range index.Blobs {
		if _, err := b.read(d.String()); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
	if _, err := b.OpenBlob(b.ctx, foreign.Manifest.Digest.String()); !errors.Is(err, runtime.ErrNoBlob) {
		t.Errorf("a manifest that is not there: %v", err)
	}
}

// The name of an image that is here already stays with it. What was fetched is
// found by its digest, by Create, too.
func TestFetchKeepsNames(t *testing.T) {
	b := newBench(t)
	name := unreachable + "taken:1"
	mine, theirs := registryImage(t, ""), stack(t, registryImage(t, ""), random(t, 1<<10))
	if err := daemon(t).Import(b.ctx, mine, name); err != nil {
		t.Fatal(err)
	}
	source := having("a", theirs)
	b.fetched(name, theirs, source)
	if root, err := b.Image(b.ctx, name); err != nil || root != rootOf(mine) {
		t.Errorf("the name stands for %+v, %v; want %+v", root, err, rootOf(mine))
	}
	exact := unreachable + "taken@" + theirs.Manifest.Digest.String()
	for _, other := range []string{exact, theirs.Manifest.Digest.String()} {
		if root, err := b.Image(b.ctx, other); err != nil || root != rootOf(theirs) {
			t.Errorf("%s stands for %+v, %v", other, root, err)
		}
	}
	for _, policy := range []bunfile.PullPolicy{bunfile.PullMissing, bunfile.PullAlways, bunfile.PullNever} {
		s := fromRegistry(name)
		s.Image.Pull = policy
		id := runtimetest.NewID()
		if err := b.Create(b.ctx, runtime.Config{ID: id, Spec: s, ImageDigest: theirs.Manifest.Digest.String()}); err != nil {
			t.Fatal(err)
		}
		details, err := b.Inspect(b.ctx, id)
		if err != nil || details.(Details).Image.Digest != theirs.Manifest.Digest.String() {
			t.Errorf("%s: the container is made of %+v, %v", policy, details, err)
		}
		if err := b.Remove(b.ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	sent := source.sent()
	if seen := b.fetched(name, theirs, source); seen.steps() != "present" || source.sent() != sent {
		t.Errorf("again, it reports %s", seen.steps())
	}
	if seen := b.fetched(exact, theirs, source); seen.steps() != "present" {
		t.Errorf("by its digest, it reports %s", seen.steps())
	}
	other := random(t, 1<<10)
	if _, err := b.fetch(exact, other, having("a", other)); err == nil {
		t.Error("a name by digest is given to another image")
	}
	for _, name := range []string{name, exact} {
		if err := b.RemoveImage(b.ctx, name); err != nil {
			t.Fatal(err)
		}
	}
}

// A Fetch that was killed before it gave the image its name is made good by the
// next one, and so is one whose image has lost a part.
func TestFetchAfterHalfAFetch(t *testing.T) {
	b := newBench(t)
	img, name := random(t, 1<<10), unreachable+"half:1"
	source := having("a", img)
	b.fetched(name, img, source)
	c, err := b.client(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	is, err := c.ImageService().Get(b.ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if is.Name, err = nameByDigest(name, img.Manifest.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ImageService().Create(b.ctx, is); err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveImage(b.ctx, name); err != nil {
		t.Fatal(err)
	}
	if seen := b.fetched(name, img, source); seen.steps() != "present" {
		t.Errorf("it reports %s", seen.steps())
	}
	if root, err := b.Image(b.ctx, name); err != nil || root != rootOf(img) {
		t.Errorf("the name stands for %+v, %v", root, err)
	}
	m, _ := parts(t, img)
	if err := c.ContentStore().Delete(b.ctx, m.Config.Digest); err != nil {
		t.Fatal(err)
	}
	if seen := b.fetched(name, img, source); seen.steps() != "fetching fetched unpacking done" {
		t.Errorf("with a part missing it reports %s", seen.steps())
	}
}

// What a root claims is not trusted with this machine's memory.
func TestFetchOfAbsurdRoots(t *testing.T) {
	b := newBench(t)
	img := random(t, 1<<10)
	for _, change := range []func(*runtime.Descriptor){
		func(d *runtime.Descriptor) { d.Size = 1 << 40 },
		func(d *runtime.Descriptor) { d.Size = 0 },
		func(d *runtime.Descriptor) { d.Size = -1 },
		func(d *runtime.Descriptor) { d.Size++ },
		func(d *runtime.Descriptor) { d.Size-- },
		func(d *runtime.Descriptor) { d.Digest = "sha256:../../.." },
		func(d *runtime.Descriptor) { d.Digest = "" },
		func(d *runtime.Descriptor) { d.MediaType = "text/html" },
	} {
		root := rootOf(img)
		change(&root)
		image := bunfile.Image{DockerImage: unreachable + "absurd:1", Pull: bunfile.PullNever}
		if _, err := b.Fetch(b.ctx, image, root, []runtime.BlobSource{having("a", img)}, nil); err == nil {
			t.Errorf("%+v is accepted", root)
		}
		b.forget(image.DockerImage)
	}
}

// Nor is what claims to be a manifest and is larger than any.
func TestFetchOfHugeManifest(t *testing.T) {
	b := newBench(t)
	blobs := map[digest.Digest][]byte{}
	huge := ociimage.Image{Blobs: blobs, Manifest: put(t, blobs, ocispec.MediaTypeImageManifest, strings.Repeat("a", mostMetadata))}
	source := having("a", huge)
	if _, err := b.fetch(unreachable+"huge:1", huge, source); err == nil || source.sent() > 0 {
		t.Errorf("%d bytes of it were read: %v", source.sent(), err)
	}
	empty(t, daemon(t))
}

// A small layer that expands to more than the disk has room for fills neither
// memory nor, for long, the disk; it is said what is full, and other images work.
func TestFetchOfBombOnFullDisk(t *testing.T) {
	containerdtest.Need(t)
	dir, err := os.MkdirTemp("", "containerd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	defer func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	}()
	d, err := containerdtest.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Kill()
	r := open(t, d, t.TempDir())
	defer r.Close()
	bomb := imageOf(t, map[string]ociimage.File{"/zeros": {Data: make([]byte, 32<<20), Mode: 0o644}})
	large, small := random(t, 28<<20), random(t, 1<<20)
	for what, img := range map[string]ociimage.Image{"bomb": bomb, "large": large} {
		_, err := r.Fetch(context.Background(), bunfile.Image{DockerImage: unreachable + what + ":1"}, rootOf(img), []runtime.BlobSource{ranges{having("a", img)}}, nil)
		if err == nil || !strings.Contains(err.Error(), "is full: make room") {
			t.Errorf("%s: %v", what, err)
		}
		empty(t, d)
	}
	image := bunfile.Image{DockerImage: unreachable + "small:1"}
	if _, err := r.Fetch(context.Background(), image, rootOf(small), []runtime.BlobSource{having("a", small)}, nil); err != nil {
		t.Error(err)
	}
	empty(t, d)
}
