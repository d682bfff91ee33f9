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
		// The interfaces go with it.
		if err := run("ip", "netns", "delete", name); err != nil {
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
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread ends with its goroutine, as it stays locked: it is in the
		// wrong place for anybody else.
		runtime.LockOSThread()
		ns, err := os.Open(l.netns)
		if err == nil {
			err = errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close())
		}
		var conn net.Conn
		if err == nil {
			// A socket belongs to the namespace in which it was made, which is
			// by this thread as there is one address only.
			conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		}
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
