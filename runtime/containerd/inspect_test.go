//go:build linux

package containerd

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func (b *bench) details(id string) Details {
	b.Helper()
	v, err := b.Inspect(b.ctx, id)
	d, ok := v.(Details)
	if err != nil || !ok {
		b.Fatalf("Inspect gives %+v, %v", v, err)
	}
	return d
}

// TestInspectDetails: it is all there, and true.
func TestInspectDetails(t *testing.T) {
	b := newBench(t)
	d := daemon(t)
	c, err := d.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	img, err := c.GetImage(b.ctx, busyboxImage)
	if err != nil {
		t.Fatal(err)
	}
	s := shell("echo up; exec sleep 1000")
	s.Network = ""
	s.Ports = []bunfile.Port{{ContainerPort: 80, Protocol: bunfile.TCP}}
	s.Environment = []string{"SECRET=shown"}
	s.Volumes = []bunfile.Volume{{Source: t.TempDir(), Target: "/data", Mode: bunfile.ReadOnly}}
	id, st := b.run(s)
	b.waitFor(id, "up")
	got := b.details(id)
	if got.Address != d.Address || got.Namespace != d.Namespace || got.PID != st.PID || !got.Supervised || !got.StartedAt.Equal(st.StartedAt) {
		t.Errorf("Inspect of %+v gives %+v", st, got)
	}
	if want := (ImageDetails{Name: busyboxImage, Digest: img.Target().Digest.String()}); got.Image != want {
		t.Errorf("the image is %+v, want %+v", got.Image, want)
	}
	if got.Snapshot.Key != id || got.Snapshot.Snapshotter != snapshotter || got.Labels["budgie.name"] != "suite" {
		t.Errorf("the snapshot is %+v, the labels are %v", got.Snapshot, got.Labels)
	}
	if _, err := os.Stat(got.LogDir); err != nil || got.Dir != b.path(id) {
		t.Errorf("the directories are %s and %s (%v)", got.Dir, got.LogDir, err)
	}
	if !slices.ContainsFunc(got.Mounts, func(m specs.Mount) bool {
		return m.Destination == "/data" && m.Source == s.Volumes[0].Source && slices.Contains(m.Options, "ro")
	}) {
		t.Errorf("no volume in %+v", got.Mounts)
	}
	if !slices.Contains(got.Spec.Process.Env, "SECRET=shown") {
		t.Errorf("the environment is %q", got.Spec.Process.Env)
	}
	n := got.Network
	if n.Mode != bunfile.NetworkBridge || !slices.Equal(n.Ports, st.Addresses) || len(n.Ports) != 1 {
		t.Errorf("the network is %+v, want %+v", n, st.Addresses)
	}
	if want := netip.MustParseAddrPort(st.Addresses[0].HostPort).Addr().String(); n.Address != want {
		t.Errorf("the address is %q, want %q", n.Address, want)
	}
	var ns unix.Stat_t
	if err := unix.Stat(n.Namespace, &ns); err != nil {
		t.Error(err)
	}
	if own := b.sh(id, "stat -L -c %i /proc/self/ns/net"); own != fmt.Sprintln(ns.Ino) {
		t.Errorf("the network namespace is %s (%d), and in the container it is %s", n.Namespace, ns.Ino, own)
	}
	if err := b.Stop(b.ctx, id, time.Second); err != nil {
		t.Fatal(err)
	}
	got = b.details(id)
	if want := (NetworkDetails{Mode: bunfile.NetworkBridge}); got.PID != 0 || got.Supervised || !reflect.DeepEqual(got.Network, want) {
		t.Errorf("stopped it is %+v", got)
	}
}

// TestInspectMovedTag: the digest is that of what the container was made of,
// not of what has its name since.
func TestInspectMovedTag(t *testing.T) {
	b := newBench(t)
	c, err := daemon(t).Client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const name = "docker.io/library/moving:latest"
	images := c.ImageService()
	img, err := images.Get(b.ctx, busyboxImage)
	if err != nil {
		t.Fatal(err)
	}
	was := img.Target.Digest.String()
	img.Name = name
	if _, err := images.Create(b.ctx, img); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := images.Delete(b.ctx, name); err != nil {
			t.Error(err)
		}
	}()
	id := b.create(spec(name, "true"))
	other, err := images.Get(b.ctx, programImage)
	if err != nil {
		t.Fatal(err)
	}
	other.Name = name
	if _, err := images.Update(b.ctx, other); err != nil {
		t.Fatal(err)
	}
	if got := b.details(id).Image; got.Name != name || got.Digest != was {
		t.Errorf("the image is %+v, want digest %s", got, was)
	}
}
