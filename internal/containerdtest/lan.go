//go:build linux

package containerdtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// LAN is a network of two machines: the test's, and another one, which is a
// network namespace with nothing in it.
type LAN struct {
	// Here is the test machine's address, There the other one's.
	Here, There string
	// Link is the test machine's interface.
	Link string

	netns string
}

// The addresses are of a block for documentation (RFC 5737): no other network
// has them.
const (
	lanHere  = "198.51.100.1"
	lanThere = "198.51.100.2"
)

// NewLAN makes the network, in the namespace that Isolate made, until the end of
// the test. There is one at a time.
func NewLAN(t testing.TB) *LAN {
	t.Helper()
	Need(t)
	const name = "lan"
	t.Cleanup(func() {
		// The interfaces would go with the namespace, but at the kernel's leisure.
		if err := errors.Join(run("ip", "link", "delete", "lan0"), run("ip", "netns", "delete", name)); err != nil {
			t.Error(err)
		}
	})
	for _, line := range []string{
		"netns add " + name,
		"link add lan0 type veth peer name eth0 netns " + name,
		"address add " + lanHere + "/24 dev lan0",
		"link set lan0 up",
		"-n " + name + " address add " + lanThere + "/24 dev eth0",
		"-n " + name + " link set eth0 up",
		"-n " + name + " link set lo up",
		"-n " + name + " route add default via " + lanHere,
	} {
		if err := run("ip", strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
	return &LAN{Here: lanHere, There: lanThere, Link: "lan0", netns: filepath.Join("/run/netns", name)}
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Dial connects from the other machine. addr is an IP address with a port.
func (l *LAN) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := l.there(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Listen listens on a free port of the other machine until the end of the test.
func (l *LAN) Listen(t testing.TB, network string) (net.Listener, error) {
	var ln net.Listener
	err := l.there(func() (err error) {
		ln, err = net.Listen(network, net.JoinHostPort(l.There, "0"))
		return err
	})
	if err == nil {
		t.Cleanup(func() { _ = ln.Close() })
	}
	return ln, err
}

// there calls f on the other machine. What f opens by itself, not in another
// goroutine, stays in the other machine's network.
func (l *LAN) there(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread ends with its goroutine, as it stays locked: it is in the
		// wrong place for anybody else.
		runtime.LockOSThread()
		ns, err := os.Open(l.netns)
		if err == nil {
			err = errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close())
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
