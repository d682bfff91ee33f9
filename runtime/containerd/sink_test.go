//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/budgiehq/budgie/internal/stall"
	"github.com/budgiehq/budgie/runtime"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unreachable is where no registry is.
const unreachable = "127.0.0.1:1/"

func (b *bench) fetch(name string, img ociimage.Image, from ...runtime.BlobSource) (events, error) {
	b.Helper()
	var seen events
	got, err := b.Fetch(b.ctx, bunfile.Image{DockerImage: name}, rootOf(img), from, seen.report)
	if err == nil && got != img.Manifest.Digest.String() {
		b.Errorf("Fetch returned %s", got)
	}
	return seen, err
}

// fetched is fetch that must succeed, with a check that nothing is left over.
func (b *bench) fetched(name string, img ociimage.Image, from ...runtime.BlobSource) events {
	b.Helper()
	seen, err := b.fetch(name, img, from...)
	if err != nil {
		b.Fatal(err)
	}
	empty(b.T, daemon(b.T))
	return seen
}

// An image of one machine runs on another without a registry, and of its second
// version only the layer that differs is transferred.
func TestImageFromAnotherMachine(t *testing.T) {
	a := newBench(t)
	there := &elsewhere{name: "a", open: a.OpenBlob, served: map[string]int64{}}
	dir, err := os.MkdirTemp("", "containerd") // the name of a test is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	d, err := containerdtest.StartVersion(containerdtest.Latest, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := &bench{T: t, dir: t.TempDir(), ctx: ctx}
	b.Runtime = open(t, d, b.dir)
	defer b.Close()
	busybox, err := containerdtest.Busybox(ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range []ociimage.Image{random(t, 1<<20), random(t, 2<<20)} {
		img := stack(t, busybox, data)
		name := fmt.Sprintf("%sweb:%d", unreachable, i+1)
		if err := daemon(t).Import(ctx, img, name); err != nil {
			t.Fatal(err)
		}
		root, err := a.Image(ctx, name)
		if err != nil || root != rootOf(img) {
			t.Fatalf("the image is %+v, %v; want %+v", root, err, rootOf(img))
		}
		before := there.sent()
		image := bunfile.Image{DockerImage: name, Pull: bunfile.PullAlways}
		got, err := b.Fetch(ctx, image, root, []runtime.BlobSource{ranges{there}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent, layers := there.sent()-before, layersOf(t, img)
		if i == 0 && sent < int64(len(img.Blobs[layers[0]])) {
			t.Errorf("of the first version %d bytes were read", sent)
		}
		if rest := sent - int64(len(img.Blobs[layers[1]])); i > 0 && (rest < 0 || rest > 64<<10) {
			t.Errorf("of the second version %d bytes were read, for a layer of %d", sent, len(img.Blobs[layers[1]]))
		}
		s := spec(name, "sh", "-c", "ls -d /data-*")
		s.Image.Pull = bunfile.PullAlways
		id := strings.Repeat("ab", 32)
		if err := b.Create(ctx, runtime.Config{ID: id, Spec: s, ImageDigest: got}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Start(ctx, id); err != nil {
			t.Fatal(err)
		}
		st, err := b.Wait(ctx, id)
		if out := b.output(id); err != nil || st.Exit == nil || st.Exit.Code != 0 || !strings.HasPrefix(out, "/data-") {
			t.Errorf("it ended with %+v, %v: %s", st.Exit, err, out)
		}
		if err := b.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	empty(t, d)
}

// Progress is reported as that of pulls, and once all is there nothing is read.
func TestFetchReportsProgress(t *testing.T) {
	b := newBench(t)
	img := random(t, 3<<20)
	layer, source := layersOf(t, img)[0], having("a", img)
	seen := b.fetched(unreachable+"progress:1", img, source)
	if want := "fetching fetched unpacking done"; seen.steps() != want {
		t.Errorf("the steps are %s, want %s", seen.steps(), want)
	}
	offset, total := int64(0), int64(len(img.Blobs[layer]))
	for _, e := range seen {
		if e.Step == runtime.PullFetching && (e.Blob != layer.String() || e.Total != total || e.Offset < offset) {
			t.Fatalf("after %d of %d bytes comes %+v", offset, total, e)
		}
		offset = e.Offset
	}
	sent := source.sent()
	if seen := b.fetched(unreachable+"progress:1", img, source); seen.steps() != "present" || source.sent() != sent {
		t.Errorf("the second time it reports %s, and reads %d bytes", seen.steps(), source.sent()-sent)
	}
	if sent < total {
		t.Errorf("%d bytes were read", sent)
	}
}

// Two sources share the work: of many layers, and of a single one if they can
// be read in ranges.
func TestFetchFromTwoSources(t *testing.T) {
	b := newBench(t)
	one := random(t, 12<<20)
	twice := random(t, 3<<20) // layers may be in an image more than once
	many := stack(t, random(t, 3<<20), twice, random(t, 3<<20), twice, random(t, 3<<20))
	for _, c := range []struct {
		name string
		img  ociimage.Image
		wrap func(*elsewhere) runtime.BlobSource
	}{
		{"one", one, func(e *elsewhere) runtime.BlobSource { return ranges{e} }},
		{"many", many, func(e *elsewhere) runtime.BlobSource { return e }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sources := []*elsewhere{having("a", c.img), having("b", c.img)}
			for _, e := range sources {
				e.fault = at(16*mebi, nil)
			}
			b.fetched(unreachable+c.name+":1", c.img, c.wrap(sources[0]), c.wrap(sources[1]))
			for i, e := range sources {
				if sent := e.sent(); sent < 3*mebi || sent > 10*mebi {
					t.Errorf("source %d of %d sent %d bytes", i, len(sources), sent)
				}
			}
		})
	}
}

// Case I1: what a source was cut off from is fetched from another one, with less
// than 15 % fetched again.
func TestCaseI1CutSource(t *testing.T) {
	b := newBench(t)
	for _, ranged := range []bool{false, true} {
		img := random(t, layerSize)
		cut, sound := having("cut", img), having("sound", img)
		cut.fault = cutAt(layerSize * 9 / 10)
		from := []runtime.BlobSource{cut, sound}
		if ranged {
			from = []runtime.BlobSource{ranges{cut}, ranges{sound}}
		}
		b.fetched(unreachable+"cut:"+digest.FromString(img.Manifest.Digest.String()).Encoded()[:8], img, from...)
		if sent := float64(cut.sent()+sound.sent()) / layerSize; sent < 1 || sent > 1.15 {
			t.Errorf("%.2f times the layer was read, ranged: %v", sent, ranged)
		}
		if !ranged && float64(cut.sent()) < 0.8*layerSize {
			t.Errorf("the source that was cut sent %d bytes", cut.sent())
		}
	}
}

// Case I1: a Fetch that was interrupted goes on where it was, in another program
// and from another source.
func TestCaseI1InterruptedFetch(t *testing.T) {
	b := newBench(t)
	img := random(t, layerSize)
	first, second := having("first", img), having("second", img)
	first.fault = stallAt(layerSize * 9 / 10)
	ctx, cancel := context.WithCancel(b.ctx)
	image := bunfile.Image{DockerImage: unreachable + "interrupted:1"}
	_, err := b.Fetch(ctx, image, rootOf(img), []runtime.BlobSource{first}, func(p runtime.PullProgress) {
		if p.Offset >= layerSize*8/10 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted, Fetch returns %v", err)
	}
	if n := pullLeases(b); n != 1 {
		t.Errorf("%d leases hold what was fetched", n)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.Runtime = open(t, daemon(t), b.dir)
	b.fetched(image.DockerImage, img, second)
	if sent := float64(first.sent()+second.sent()) / layerSize; sent < 1 || sent > 1.15 {
		t.Errorf("%.2f times the layer was read", sent)
	}
}

// Case I1: a source that stalls is left for another one, and where there is none
// that is said and what came is kept.
func TestCaseI1StalledSource(t *testing.T) {
	b := newBench(t, WithMinThroughput(1<<10, 300*time.Millisecond))
	img := random(t, layerSize)
	stalled, sound := having("stalled", img), having("sound", img)
	stalled.fault = stallAt(layerSize / 2)
	name := unreachable + "stalled:1"
	if _, err := b.fetch(name, img, stalled); !errors.Is(err, stall.ErrStalled) || !strings.Contains(err.Error(), "stalled") {
		t.Fatalf("a stalled source alone: %v", err)
	}
	b.fetched(name, img, stalled, sound)
	if sent := float64(stalled.sent()+sound.sent()) / layerSize; sent < 1 || sent > 1.15 {
		t.Errorf("%.2f times the layer was read", sent)
	}
}

// A source that sends wrong bytes costs no more than that they are fetched from
// another one; alone, it leaves nothing.
func TestFetchFromLiars(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ name, kinds string }{{"liar-first", "pP"}, {"liar-among", "rRR"}, {"liar-last", "RrR"}, {"liars", "rrR"}} {
		t.Run(c.name, func(t *testing.T) {
			img := random(t, 3<<20)
			var from []runtime.BlobSource
			for _, kind := range c.kinds {
				e := having(string(kind), img)
				e.fault = at(16*mebi, nil) // so that each of them has a part in it
				if strings.ToLower(string(kind)) == string(kind) {
					e.fault = at(16*mebi, corrupted)
				}
				if kind == 'p' || kind == 'P' {
					from = append(from, e)
				} else {
					from = append(from, ranges{e})
				}
			}
			(&bench{T: t, Runtime: b.Runtime, ctx: b.ctx}).fetched(unreachable+c.name+":1", img, from...)
		})
	}
	img := random(t, 3<<20)
	liar := having("the liar", img)
	liar.fault = corrupted
	before := b.stock()
	if _, err := b.fetch(unreachable+"alone:1", img, liar); !errors.Is(err, errLied) || !strings.Contains(err.Error(), "the liar") {
		t.Errorf("a liar alone gives %v", err)
	}
	b.forget(unreachable + "alone:1")
	if after := b.stock(); len(after) != len(before) {
		t.Errorf("%q is left, where there was %q", after, before)
	}
	b.fetched(unreachable+"alone:1", img, having("sound", img))
}

// forget deletes what is kept of a failed Fetch.
func (b *bench) forget(name string) {
	b.Helper()
	c, err := b.client(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	lease, _, err := partsLease(b.ctx, c, name)
	if err == nil {
		err = c.LeasesService().Delete(b.ctx, lease)
	}
	if err != nil {
		b.Fatal(err)
	}
	empty(b.T, daemon(b.T))
}

// Case I2: layers that the source's containerd has discarded come from the
// registry, and where that is not reachable the setting is named.
func TestCaseI2DiscardedLayers(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	img := stack(t, random(t, 1<<20), random(t, 1<<20))
	layers := layersOf(t, img)
	source := having("a", img)
	all := source.open
	source.open = func(ctx context.Context, id string) (runtime.Blob, error) {
		if id == layers[1].String() {
			return nil, runtime.ErrNoBlob
		}
		return all(ctx, id)
	}
	b.fetched(registry.Push(img, "discarded", "1"), img, source)
	if got := registry.Served(layers[1]); got != len(img.Blobs[layers[1]]) || registry.Served(layers[0]) != 0 || source.sent(layers[0]) == 0 {
		t.Errorf("the registry served %d and %d bytes", registry.Served(layers[0]), got)
	}
	other := stack(t, random(t, 1<<20), random(t, 1<<20))
	gone := having("a", ociimage.Image{Blobs: map[digest.Digest][]byte{}})
	all = having("b", other).open
	gone.open = func(ctx context.Context, id string) (runtime.Blob, error) {
		if id == layersOf(t, other)[0].String() {
			return nil, runtime.ErrNoBlob
		}
		return all(ctx, id)
	}
	// Under the policy never no registry is asked, though this one has it.
	never := bunfile.Image{DockerImage: registry.Push(other, "discarded", "2"), Pull: bunfile.PullNever}
	for _, image := range []bunfile.Image{{DockerImage: unreachable + "discarded:1"}, never} {
		_, err := b.Fetch(b.ctx, image, rootOf(other), []runtime.BlobSource{gone}, nil)
		if !errors.Is(err, runtime.ErrNoBlob) || !strings.Contains(err.Error(), "discard_unpacked_layers") {
			t.Errorf("%s: %v", image.DockerImage, err)
		}
		name, _ := normalise(image.DockerImage)
		b.forget(name)
	}
}

// Case I4: an image for another processor is refused before a layer is read.
func TestCaseI4ForeignImage(t *testing.T) {
	b := newBench(t)
	foreign, err := ociimage.New(map[string]ociimage.File{"/data": {Data: make([]byte, 1<<16), Mode: 0o644}}, ocispec.ImageConfig{}, "s390x")
	if err != nil {
		t.Fatal(err)
	}
	index := indexOf(t, map[string]ociimage.Image{"s390x": foreign})
	for name, img := range map[string]ociimage.Image{"manifest": foreign, "index": index} {
		source := having("a", img)
		_, err := b.fetch(unreachable+"foreign-"+name+":1", img, source)
		if !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "s390x") {
			t.Errorf("%s: %v", name, err)
		}
		if sent := source.sent(layersOf(t, foreign)...); sent > 0 {
			t.Errorf("%s: %d bytes of layers were read", name, sent)
		}
		empty(t, daemon(t))
	}
}

// Several programs that fetch an image at the same time fetch it once.
func TestFetchesOfSeveralPrograms(t *testing.T) {
	b := newBench(t)
	img := random(t, layerSize)
	source := having("a", img)
	var wg sync.WaitGroup
	var failed atomic.Int32
	for range 3 {
		r := open(t, daemon(t), t.TempDir())
		defer r.Close()
		wg.Go(func() {
			if _, err := r.Fetch(b.ctx, bunfile.Image{DockerImage: unreachable + "several:1"}, rootOf(img), []runtime.BlobSource{source}, nil); err != nil {
				failed.Add(1)
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if sent := source.sent(); failed.Load() == 0 && float64(sent) > 1.05*layerSize {
		t.Errorf("%d bytes were read", sent)
	}
	empty(t, daemon(t))
}
