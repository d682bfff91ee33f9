//go:build linux

package containerd

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
)

const (
	programImage = "docker.io/library/program:latest"
	busyboxImage = "docker.io/library/busybox:latest"
)

func TestMain(m *testing.M) {
	containerdtest.Isolate()
	supervisor()
	goleak.VerifyTestMain(m,
		goleak.Cleanup(func(code int) {
			if d, err := shared(); err == nil && d != nil {
				d.Kill()
				os.RemoveAll(d.Dir)
			}
			os.Exit(code)
		}),
		// The daemon's, which lives as long as the tests.
		goleak.IgnoreAnyFunction("github.com/budgiehq/budgie/internal/containerdtest.(*Daemon).Start.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Start.func2"),
		goleak.IgnoreAnyFunction("os/signal.loop"),
	)
}

// shared is the daemon of all tests that do not kill it, nil where none can be
// started. It is started by the first one.
var shared = sync.OnceValues(func() (*containerdtest.Daemon, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "containerd")
	if err != nil {
		return nil, err
	}
	d, err := containerdtest.Start(dir)
	if err != nil {
		return nil, err
	}
	return d, importImages(d, dir)
})

func importImages(d *containerdtest.Daemon, dir string) error {
	ctx := context.Background()
	program, err := containerdtest.Program(dir)
	if err != nil {
		return err
	}
	busybox, err := containerdtest.Busybox(ocispec.ImageConfig{
		Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "FROM_IMAGE=yes", "NO_VALUE", "=no name"}, WorkingDir: "/tmp", StopSignal: "SIGUSR1",
	})
	if err != nil {
		return err
	}
	if err := d.Import(ctx, program, programImage); err != nil {
		return err
	}
	return d.Import(ctx, busybox, busyboxImage)
}

// daemon returns the shared daemon.
func daemon(t *testing.T) *containerdtest.Daemon {
	t.Helper()
	containerdtest.Need(t)
	d, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func open(t *testing.T, d *containerdtest.Daemon, dir string, opts ...Option) *Runtime {
	t.Helper()
	opts = append([]Option{WithAddress(d.Address), WithNamespace(d.Namespace), WithDataDir(dir)}, opts...)
	r, err := New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// empty fails the test if something of a container is left. Images, and the
// snapshots that they are unpacked to, stay.
func empty(t *testing.T, d *containerdtest.Daemon) {
	t.Helper()
	left, err := d.Leftovers()
	if err != nil {
		t.Error(err)
	}
	for _, what := range left {
		t.Errorf("left behind: %s", what)
	}
}

// spec is a container of an image in the host's network, which here is the
// test's own.
func spec(image string, command ...string) bunfile.Spec {
	s := runtimetest.Spec("suite", command...)
	s.Image.DockerImage = image
	s.Network = bunfile.NetworkHost
	return s
}

func program(args ...string) []string {
	return runtimetest.ProgramCommand(containerdtest.ProgramPath, args...)
}

func TestConformance(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		d := private(t, v)
		networks := []bunfile.Network{bunfile.NetworkBridge}
		if v == containerdtest.Distribution {
			networks = append(networks, bunfile.NetworkHost) // which is no different on the other
		}
		for _, network := range networks {
			t.Run(string(network), func(t *testing.T) { conform(t, d, network) })
		}
	})
}

func conform(t *testing.T, d *containerdtest.Daemon, network bunfile.Network) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Harness {
		dir := t.TempDir()
		t.Cleanup(func() { empty(t, d) })
		return runtimetest.Harness{
			Runtime: open(t, d, dir),
			Reopen:  func(t *testing.T) runtimetest.Runtime { return open(t, d, dir) },
			Spec: func(args ...string) bunfile.Spec {
				s := spec(programImage, program(args...)...)
				s.Network = network
				return s
			},
			Command: program,
			Image:   bunfile.Image{DockerImage: programImage},
		}
	})
}
