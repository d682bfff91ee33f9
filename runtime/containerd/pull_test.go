//go:build linux

package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bigImage is an image with a layer of size random bytes, which no compression
// makes smaller. It returns the layer's digest.
func bigImage(t *testing.T, size int) (ociimage.Image, digest.Digest) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	img, err := ociimage.New(map[string]ociimage.File{"/data": {Data: data, Mode: 0o644}}, ocispec.ImageConfig{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for d, blob := range img.Blobs {
		if len(blob) >= size {
			return img, d
		}
	}
	t.Fatal("the image has no big layer")
	return img, ""
}

// events collects what a pull reports.
type events []runtime.PullProgress

func (e *events) report(p runtime.PullProgress) { *e = append(*e, p) }

// steps returns the kinds of events, the same ones in a row once.
func (e events) steps() string {
	var out []string
	for _, p := range e {
		if len(out) == 0 || out[len(out)-1] != string(p.Step) {
			out = append(out, string(p.Step))
		}
	}
	return strings.Join(out, " ")
}

// pullLeases returns how many leases hold parts of images.
func pullLeases(b *bench) int {
	b.Helper()
	c, err := b.client(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	all, err := c.LeasesService().List(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, l := range all {
		if strings.HasPrefix(l.ID, pullLease) {
			n++
		}
	}
	return n
}

func TestPullReportsProgress(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	img, layer := bigImage(t, 3<<20)
	image := bunfile.Image{DockerImage: registry.Push(img, "big", "1")}
	var seen events
	got, err := b.Pull(b.ctx, image, seen.report)
	if err != nil || got != img.Manifest.Digest.String() {
		t.Fatalf("Pull returned %s, %v; want %s", got, err, img.Manifest.Digest)
	}
	if want := "resolving fetching fetched unpacking done"; seen.steps() != want {
		t.Errorf("the steps are %s, want %s", seen.steps(), want)
	}
	offset, total := int64(0), int64(len(img.Blobs[layer]))
	for _, e := range seen {
		if e.Image != image.DockerImage || e.Step == runtime.PullFetching && (e.Blob != layer.String() || e.Total != total || e.Offset < offset) {
			t.Fatalf("after %d of %d bytes comes %+v", offset, total, e)
		}
		offset = e.Offset
		if e.Step == runtime.PullFetched && e.Offset != total {
			t.Errorf("at the end there are %d of %d bytes", e.Offset, total)
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d events", len(seen))
	}
	seen = nil
	if _, err := b.Pull(b.ctx, image, seen.report); err != nil || seen.steps() != "present" {
		t.Errorf("the second pull reports %s, %v", seen.steps(), err)
	}
	// Under another name all of it is there, and looked for.
	seen = nil
	other := bunfile.Image{DockerImage: registry.Push(img, "big", "2")}
	if _, err := b.Pull(b.ctx, other, seen.report); err != nil || seen.steps() != "resolving fetching fetched unpacking done" {
		t.Errorf("the pull of another name reports %s, %v", seen.steps(), err)
	}
	if served := registry.Served(layer); served != len(img.Blobs[layer]) {
		t.Errorf("%d bytes of a layer of %d were served", served, len(img.Blobs[layer]))
	}
}

// What Pull found is what Create uses, whatever the policy: a registry is asked
// once per run.
func TestCreateUsesWhatWasPulled(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	s := fromRegistry(registry.Push(registryImage(t, ""), "once", "1"))
	s.Image.Pull = bunfile.PullAlways
	got, err := b.Pull(b.ctx, s.Image, nil)
	if err != nil {
		t.Fatal(err)
	}
	registry.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusTeapot)
		return true
	}
	id := strings.Repeat("a", 64)
	if err := b.Create(b.ctx, runtime.Config{ID: id, Spec: s, ImageDigest: got}); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	// Another one than the tag means now is not what was pulled.
	other := digest.FromString("another image").String()
	if err := b.Create(b.ctx, runtime.Config{ID: id, Spec: s, ImageDigest: other}); err == nil {
		t.Error("Create uses an image that is not the one that was pulled")
	}
}

// cutter is a fault that sends a part of a blob, and then does something else.
type cutter struct {
	layer digest.Digest
	data  []byte
	part  float64
	// then is called when the part has been sent, until it is over.
	then func(req *http.Request)
	over atomic.Bool
	// sent is how much of the blob was sent by the fault.
	sent atomic.Int64
}

func (c *cutter) fault(w http.ResponseWriter, req *http.Request) bool {
	if req.Method != http.MethodGet || c.over.Load() || !strings.HasSuffix(req.URL.Path, c.layer.String()) {
		return false
	}
	begin := 0
	if from := req.Header.Get("Range"); from != "" {
		if _, err := fmt.Sscanf(from, "bytes=%d-", &begin); err != nil {
			panic(err)
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", begin, len(c.data)-1, len(c.data)))
		w.Header().Set("Content-Length", fmt.Sprint(len(c.data)-begin))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(len(c.data)))
	}
	if end := int(c.part * float64(len(c.data))); end > begin {
		n, _ := w.Write(c.data[begin:end])
		c.sent.Add(int64(n))
	}
	_ = http.NewResponseController(w).Flush()
	c.then(req)
	panic(http.ErrAbortHandler)
}

const layerSize = 12 << 20

func newCutter(t *testing.T, part float64) (*containerdtest.Registry, *cutter, bunfile.Image, func() float64) {
	registry := containerdtest.NewRegistry(t)
	img, layer := bigImage(t, layerSize)
	c := &cutter{layer: layer, data: img.Blobs[layer], part: part}
	registry.Fault = c.fault
	image := bunfile.Image{DockerImage: registry.Push(img, "cut", "1")}
	return registry, c, image, func() float64 {
		return float64(int(c.sent.Load())+registry.Served(layer)) / float64(len(c.data))
	}
}

// Case I1: a pull whose connection is cut at 90 % fetches less than 15 % again.
func TestCaseI1CutConnection(t *testing.T) {
	b := newBench(t)
	_, cut, image, transferred := newCutter(t, 0.9)
	cut.then = func(*http.Request) { cut.over.Store(true) }
	if _, err := b.Pull(b.ctx, image, nil); err != nil {
		t.Fatal(err)
	}
	if got := transferred(); got < 1 || got > 1.15 {
		t.Errorf("%.2f times the layer was transferred", got)
	}
	if n := pullLeases(b); n != 0 {
		t.Errorf("%d leases of pulls are left", n)
	}
}

// Case I1: so does one that was interrupted at 90 %, or whose program was
// closed, when it is begun again.
func TestCaseI1InterruptedPull(t *testing.T) {
	b := newBench(t)
	_, cut, image, transferred := newCutter(t, 0.9)
	ctx, cancel := context.WithCancel(b.ctx)
	cut.then = func(req *http.Request) {
		<-req.Context().Done()
		cut.over.Store(true)
	}
	interrupt := func(p runtime.PullProgress) {
		if p.Total > 0 && p.Offset >= p.Total*89/100 {
			cancel()
		}
	}
	if _, err := b.Pull(ctx, image, interrupt); !errors.Is(err, context.Canceled) {
		t.Fatalf("an interrupted pull returns %v", err)
	}
	if n := pullLeases(b); n != 1 {
		t.Errorf("%d leases hold what was fetched", n)
	}
	if err := b.Runtime.Close(); err != nil {
		t.Fatal(err)
	}
	b.Runtime = open(t, daemon(t), b.dir)
	var seen events
	if _, err := b.Pull(b.ctx, image, seen.report); err != nil {
		t.Fatal(err)
	}
	if got := transferred(); got > 1.15 {
		t.Errorf("%.2f times the layer was transferred", got)
	}
	if first := seen[2]; first.Offset < layerSize*3/4 {
		t.Errorf("the second pull begins with %+v", first)
	}
	if n := pullLeases(b); n != 0 {
		t.Errorf("%d leases of pulls are left", n)
	}
}

// A registry that sends a layer only as a whole is asked for all of it again.
func TestPullFromARegistryWithoutRanges(t *testing.T) {
	b := newBench(t)
	registry, cut, image, transferred := newCutter(t, 0.5)
	cut.then = func(*http.Request) { cut.over.Store(true) }
	refused, fault := 0, registry.Fault
	registry.Fault = func(w http.ResponseWriter, req *http.Request) bool {
		if req.Header.Get("Range") != "" && cut.over.Load() {
			refused++
			http.Error(w, "no ranges", http.StatusRequestedRangeNotSatisfiable)
			return true
		}
		return fault(w, req)
	}
	if _, err := b.Pull(b.ctx, image, nil); err != nil {
		t.Fatal(err)
	}
	if got := transferred(); refused == 0 || got < 1.4 {
		t.Errorf("%d ranges were refused, and %.2f times the layer was transferred", refused, got)
	}
	if n := pullLeases(b); n != 0 {
		t.Errorf("%d leases of pulls are left", n)
	}
}

// Case I1: a transfer that stalls fails, and is taken up again by the next pull.
func TestCaseI1StalledTransfer(t *testing.T) {
	b := newBench(t, WithMinThroughput(1<<10, 300*time.Millisecond))
	_, cut, image, transferred := newCutter(t, 0.5)
	cut.then = func(req *http.Request) { <-req.Context().Done() }
	var seen events
	_, err := b.Pull(b.ctx, image, seen.report)
	if !errors.Is(err, stall.ErrStalled) || !strings.Contains(err.Error(), "is kept for 24 hours") {
		t.Fatalf("a stalled pull returns %v", err)
	}
	if !strings.Contains(seen.steps(), "retrying") {
		t.Errorf("it was not tried again: %s", seen.steps())
	}
	cut.over.Store(true)
	if _, err := b.Pull(b.ctx, image, nil); err != nil {
		t.Fatal(err)
	}
	if got := transferred(); got > 1.15 {
		t.Errorf("%.2f times the layer was transferred", got)
	}
}

// Programs that pull the same image at the same time wait for each other, also
// for one that is interrupted, and what is fetched is fetched once.
func TestPullsOfSeveralPrograms(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	img, layer := bigImage(t, layerSize)
	image := bunfile.Image{DockerImage: registry.Push(img, "shared", "1")}
	var wg sync.WaitGroup
	for i := range 4 {
		r := open(t, daemon(t), t.TempDir())
		defer r.Close()
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		wg.Go(func() {
			_, err := r.Pull(ctx, image, func(p runtime.PullProgress) {
				if i == 0 && p.Offset > 0 {
					cancel()
				}
			})
			if err != nil && !(i == 0 && errors.Is(err, context.Canceled)) {
				t.Errorf("program %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if served := registry.Served(layer); float64(served) > 1.5*float64(len(img.Blobs[layer])) {
		t.Errorf("%d bytes of a layer of %d were served", served, len(img.Blobs[layer]))
	}
	if n := pullLeases(b); n != 0 {
		t.Errorf("%d leases of pulls are left", n)
	}
	if locks, err := filepath.Glob(runDir + "/pull-*"); err != nil || len(locks) > 0 {
		t.Errorf("locks are left: %q, %v", locks, err)
	}
}

// Of those who hold a lock that goes with its holder there is one at a time.
func TestLockOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				release, err := lockOnce(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold it", n)
				}
				inside.Add(-1)
				release()
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is left")
	}
}

// A layer of the right length and wrong content is not kept for the next pull.
func TestPullAfterCorruption(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	img, layer := bigImage(t, 1<<20)
	var corrupt atomic.Bool
	corrupt.Store(true)
	registry.Fault = func(w http.ResponseWriter, req *http.Request) bool {
		if !corrupt.Load() || !strings.HasSuffix(req.URL.Path, layer.String()) {
			return false
		}
		bad := append([]byte(nil), img.Blobs[layer]...)
		bad[len(bad)/2] ^= 1
		_, _ = w.Write(bad)
		return true
	}
	image := bunfile.Image{DockerImage: registry.Push(img, "corrupt", "1")}
	if _, err := b.Pull(b.ctx, image, nil); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Fatalf("a corrupt layer gives %v", err)
	}
	empty(t, daemon(t))
	corrupt.Store(false)
	if _, err := b.Pull(b.ctx, image, nil); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
}

// A full disk in the midst of a pull is said to be one, leaves nothing, and the
// pull works when there is room.
func TestPullOnFullDisk(t *testing.T) {
	containerdtest.Need(t)
	dir := t.TempDir()
	mount := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
	}
	mount("-t", "tmpfs", "-o", "size=24m", "tmpfs", dir)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	d, err := containerdtest.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	r := open(t, d, t.TempDir())
	defer r.Close()
	registry := containerdtest.NewRegistry(t)
	img, _ := bigImage(t, 32<<20)
	image := bunfile.Image{DockerImage: registry.Push(img, "huge", "1")}
	_, err = r.Pull(t.Context(), image, nil)
	if err == nil || !strings.Contains(err.Error(), "is full: make room") {
		t.Fatalf("a full disk gives %v", err)
	}
	empty(t, d)
	mount("-o", "remount,size=256m", dir)
	if _, err := r.Pull(t.Context(), image, nil); err != nil {
		t.Errorf("with room: %v", err)
	}
	empty(t, d)
}

// An expired lease of parts is containerd's to collect, and one that is about
// to expire is not relied on.
func TestOldPartsAreNotReliedOn(t *testing.T) {
	b := newBench(t)
	_, cut, image, _ := newCutter(t, 0.9)
	ctx, cancel := context.WithCancel(b.ctx)
	cut.then = func(req *http.Request) { cancel(); <-req.Context().Done(); cut.over.Store(true) }
	if _, err := b.Pull(ctx, image, nil); err == nil {
		t.Fatal("the pull was not interrupted")
	}
	c, err := b.client(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	name, err := normalise(image.DockerImage)
	if err != nil {
		t.Fatal(err)
	}
	lease, found, err := partsLease(b.ctx, c, name)
	if err != nil || !found {
		t.Fatalf("the lease of the parts: %v, %v", found, err)
	}
	if err := c.LeasesService().Delete(b.ctx, lease); err != nil {
		t.Fatal(err)
	}
	lease.Labels["containerd.io/gc.expire"] = time.Now().Add(leaseMargin - time.Minute).Format(time.RFC3339)
	if _, err := c.LeasesService().Create(b.ctx, leases.WithID(lease.ID), leases.WithLabels(lease.Labels)); err != nil {
		t.Fatal(err)
	}
	if _, found, err := partsLease(b.ctx, c, name); err != nil || found {
		t.Errorf("a lease that is about to expire is relied on: %v", err)
	}
	if _, err := b.Pull(b.ctx, image, nil); err != nil {
		t.Fatal(err)
	}
	if n := pullLeases(b); n != 0 {
		t.Errorf("%d leases of pulls are left", n)
	}
}
