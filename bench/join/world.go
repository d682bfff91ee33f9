//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/internal/benchreport"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/lan"
	"github.com/budgiehq/budgie/internal/ociimage"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Images, which are also the names of the services that run them.
const (
	// first is the image on which the others are measured, second another version
	// of it that has one layer of its own.
	first, second = "first", "second"
	// apart has no layer in common with them. Its service has a replica on both
	// of the serving hosts.
	apart = "apart"
)

// world is the place in which everything is measured: a host that serves, by
// Budgie and as a registry, another one that serves by Budgie, and one that
// fetches.
type world struct {
	settings settings
	t        lan.TB
	// a is the one that is both, b the one that fetches.
	a, b, c  *machine
	images   map[string]ociimage.Image
	registry containerdtest.Registry
	// ctr is the program.
	ctr string
}

// machine is a host with a containerd and Budgie's command.
type machine struct {
	t lan.TB
	*lan.Host
	daemon *containerdtest.Daemon
	client *containerd.Client
}

func newWorld(ctx context.Context, t lan.TB, s settings) (*world, error) {
	// Built by tools/setup-bench-join.sh.
	ctr, err := filepath.Abs("bin/tools/ctr")
	if err != nil {
		return nil, err
	}
	w := &world{settings: s, t: t, ctr: ctr}
	if err := w.makeImages(); err != nil {
		return nil, err
	}
	lab := lan.New(t)
	sw := lab.Switch()
	for _, m := range []struct {
		name string
		at   **machine
	}{{"a", &w.a}, {"b", &w.b}, {"c", &w.c}} {
		var err error
		if *m.at, err = w.newMachine(lab.Host(m.name, sw)); err != nil {
			return nil, err
		}
	}
	if err := w.serveRegistry(); err != nil {
		return nil, err
	}
	return w, w.serveByBudgie(ctx)
}

func (w *world) newMachine(h *lan.Host) (*machine, error) {
	d, err := containerdtest.StartOn(w.t.TempDir(), h.Start)
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(d.Kill)
	c, err := d.Client()
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { _ = c.Close() }) // nothing was written to it
	return &machine{w.t, h, d, c}, nil
}

// makeImages makes images of random bytes, which nobody can compress.
func (w *world) makeImages() error {
	program, err := containerdtest.BuildProgram(filepath.Join(w.t.TempDir(), "testserver"), "github.com/budgiehq/budgie/internal/testserver")
	if err != nil {
		return err
	}
	w.images = map[string]ociimage.Image{}
	for name, seeds := range map[string][layers]byte{first: {1, 2, 3}, second: {1, 2, 4}, apart: {5, 6, 7}} {
		var all []map[string]ociimage.File
		for _, seed := range seeds {
			data := make([]byte, w.settings.size*mega/layers)
			if _, err := rand.NewChaCha8([32]byte{seed}).Read(data); err != nil {
				return err
			}
			all = append(all, map[string]ociimage.File{fmt.Sprintf("/data/%d", seed): {Data: data, Mode: 0o644}})
		}
		all[0][containerdtest.ProgramPath] = program
		w.images[name], err = ociimage.Layered(all, ocispec.ImageConfig{Entrypoint: []string{containerdtest.ProgramPath, "-host", "0.0.0.0"}}, "")
		if err != nil {
			return err
		}
	}
	return nil
}

// repository is what the images have in common.
const repository = "bench/image"

// serveRegistry serves the images from host a, out of memory: no registry has
// them at hand faster.
func (w *world) serveRegistry() error {
	addr := w.a.NIC(0).Addr().String()
	var ln net.Listener
	err := w.a.Do(func() (err error) {
		ln, err = net.Listen("tcp", net.JoinHostPort(addr, "5000"))
		return err
	})
	if err != nil {
		return err
	}
	w.registry.Host = ln.Addr().String()
	for name, img := range w.images {
		w.registry.Push(img, repository, name)
	}
	server := &http.Server{Handler: &w.registry}
	go func() { _ = server.Serve(ln) }() // until it is closed
	w.t.Cleanup(func() { _ = server.Close() })
	return nil
}

// spec is a service as people write one down. No registry is asked for its image.
const spec = `version: "1.0"
name: %[1]s
image: {docker_image: "%[2]s:%[1]s", pull: never}
ports: [{container_port: 80}]
healthcheck: {path: /, interval: 200ms}
`

// serveByBudgie runs the services, of which host c has one, and makes all hosts
// members of one flock.
func (w *world) serveByBudgie(ctx context.Context) error {
	for _, name := range []string{first, second, apart} {
		if err := w.a.daemon.Import(ctx, w.images[name], "docker.io/"+repository+":"+name); err != nil {
			return err
		}
		w.a.budgie("run", "-d", w.a.Write(name+".bun", fmt.Sprintf(spec, name, repository)))
	}
	token := w.a.budgie("token")
	for _, m := range []*machine{w.b, w.c} {
		cmd := m.command("token", "set")
		cmd.Stdin = strings.NewReader(token)
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	w.c.budgie("chirp", "-d", apart)
	return nil
}

// command returns Budgie's command with the host's containerd.
func (m *machine) command(args ...string) *lan.Cmd {
	cmd := m.Command("budgie", args...)
	cmd.Env = append(cmd.Env, "CONTAINERD_ADDRESS="+m.daemon.Address, "CONTAINERD_NAMESPACE="+m.daemon.Namespace)
	return cmd
}

// budgie runs the command and returns what it printed.
func (m *machine) budgie(args ...string) string {
	cmd := m.command(args...)
	if err := cmd.Run(); err != nil {
		m.t.Fatal(err)
	}
	return cmd.Printed()
}

// ready makes sure that a host has an image and has unpacked it.
func (m *machine) ready(ctx context.Context, name string) error {
	all, err := m.client.ListImages(ctx)
	if err != nil {
		return err
	}
	for _, img := range all {
		if strings.HasSuffix(img.Name(), repository+":"+name) {
			unpacked, err := img.IsUnpacked(ctx, "")
			if err == nil && !unpacked {
				err = fmt.Errorf("host %s has not unpacked %s", m.Name, img.Name())
			}
			return err
		}
	}
	return fmt.Errorf("host %s has no image %s", m.Name, name)
}

// forget removes the images of a host and all that belongs to them.
func (m *machine) forget(ctx context.Context) error {
	all, err := m.client.ImageService().List(ctx)
	if err != nil {
		return err
	}
	for _, img := range all {
		if err := m.client.ImageService().Delete(ctx, img.Name, images.SynchronousDelete()); err != nil {
			return err
		}
	}
	return m.client.ContentStore().Walk(ctx, func(info content.Info) error {
		return fmt.Errorf("host %s still has %s of %d bytes", m.Name, info.Digest, info.Size)
	})
}

// machine says what was measured, on what, and when.
func (w *world) machine(ctx context.Context) ([]string, error) {
	v, err := w.b.client.Version(ctx)
	return []string{
		benchreport.Machine(),
		"Budgie " + budgie.Version + " built with " + runtime.Version(),
		"containerd " + v.Version + " on every host, " + benchreport.FirstLine(ctx, w.ctr, "--version") + ", " + benchreport.FirstLine(ctx, "runc", "--version"),
	}, err
}
