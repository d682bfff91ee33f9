package budgie_test

import (
	"log/slog"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/internal/lan"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
)

// programSwitch makes the test binary be a program for tests to run.
const programSwitch = "budgie-test-program"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == programSwitch {
		program(os.Args[2:])
		return
	}
	lan.Isolate(lanRoles)
	// With the race detector a process ends a second later than it could, and the one
	// that waits for a supervisor to end would be taken for a leak.
	if err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// fakes is a client on fakes alone: no process, no socket but the published
// ports on loopback, no file.
type fakes struct {
	*budgie.Client
	runtime *runtimetest.Fake
	store   *memory.Store
	network *discoverytest.Network
	node    *discoverytest.Node
}

func newFakes(t *testing.T, opts ...runtimetest.FakeOption) *fakes {
	t.Helper()
	f := &fakes{
		runtime: runtimetest.NewFake(opts...),
		store:   memory.New(),
		network: discoverytest.NewNetwork(),
	}
	f.node = f.network.Join()
	f.Client = f.client(t)
	return f
}

// client returns another client on the same fakes.
func (f *fakes) client(t *testing.T, opts ...budgie.Option) *budgie.Client {
	t.Helper()
	c, err := budgie.New(append([]budgie.Option{
		budgie.WithDataDir(t.TempDir()), budgie.WithRuntime(f.runtime), budgie.WithStore(f.store),
		budgie.WithDiscoverer(f.node), budgie.WithLoopback(),
		budgie.WithLogger(slog.New(slog.NewTextHandler(t.Output(), nil))),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		f.runtime.Shutdown()
		_ = f.node.Close()
		_ = f.store.Close()
	})
	return c
}

// web is a container with a port and a health check.
func web(name string) bunfile.Spec {
	return bunfile.Spec{
		Version:     bunfile.Version,
		Name:        name,
		Image:       bunfile.Image{DockerImage: "example/web"},
		Ports:       []bunfile.Port{{ContainerPort: 80}},
		Healthcheck: &bunfile.Healthcheck{Path: "/", Interval: bunfile.Duration(20e6)},
	}
}

// always returns spec with the restart policy "always".
func always(spec bunfile.Spec) bunfile.Spec {
	spec.RestartPolicy.Name = bunfile.RestartAlways
	return spec
}

// status answers every request with a status.
func status(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
}

// newClient returns a client with the defaults, kept on this machine.
func newClient(t *testing.T, opts ...budgie.Option) *budgie.Client {
	t.Helper()
	c, err := budgie.New(append([]budgie.Option{budgie.WithDataDir(t.TempDir()), budgie.WithLoopback()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}
