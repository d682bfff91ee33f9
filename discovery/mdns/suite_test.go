package mdns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/internal/isolation"
	"github.com/budgiehq/budgie/internal/lan"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	lan.Isolate(roles())
	if childMain() {
		return
	}
	if isolation.Isolated() {
		// pion sends from whatever address the kernel finds, and of loopback's it
		// wants none.
		if out, err := exec.Command("ip", "addr", "replace", "192.0.2.254/32", "dev", "lo").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip addr replace: %v: %s", err, out)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// loopback returns the loopback interface: tests use no other.
func loopback(t testing.TB) net.Interface {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 {
			return i
		}
	}
	t.Fatal("there is no loopback interface that is up")
	return net.Interface{}
}

// open returns a Discoverer on loopback, which the test closes at its end.
func open(t testing.TB, opts ...Option) *Discoverer {
	t.Helper()
	d, err := New(append([]Option{WithInterfaces(loopback(t).Name)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

func TestSuite(t *testing.T) {
	t.Parallel()
	discoverytest.Run(t, func(*testing.T) discoverytest.Harness {
		return discoverytest.Harness{New: func(t testing.TB) discoverytest.Discoverer { return open(t) }}
	})
}
