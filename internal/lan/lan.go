//go:build linux

package lan

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/budgiehq/budgie/internal/isolation"
	"github.com/budgiehq/budgie/internal/testenv"
)

// programs are what a laboratory needs of the machine.
var programs = []string{"bash", "ip", "nft", "tc", "avahi-daemon", "avahi-browse", "dbus-daemon", "ping"}

// TB is whoever uses a laboratory: a [testing.TB], or what stands for one in a
// program that is no test. Skip, Fatal and Fatalf do not return.
type TB interface {
	testenv.T
	Fatal(args ...any)
	Cleanup(f func())
	TempDir() string
}

// Lab is a number of hosts on a number of switches. Its methods, and those of
// what it makes, end the test where they fail, and are called from the test's
// goroutine, one at a time.
type Lab struct {
	t TB
	// cabinet is where the switches are.
	cabinet *first
	self    string
	hosts   []*Host
	// switches and cards count what was made, for names and addresses.
	switches, cards int
}

// New returns an empty laboratory, which ends with the test. It skips the test,
// or fails it where everything must run, if there can be none.
func New(t TB) *Lab {
	t.Helper()
	testenv.NeedRoot(t)
	var missing []string
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		testenv.Skip(t, "needs "+strings.Join(missing, ", ")+": run tools/setup.sh")
	}
	if !isolation.Isolated() {
		t.Fatal("TestMain does not call lan.Isolate")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cabinet, err := boot(`
mount --make-rprivate /
mount -t proc proc /proc
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6`)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{t: t, cabinet: cabinet, self: self}
	_ = t.TempDir() // the first one, so that they are removed after what writes into them has ended
	t.Cleanup(func() {
		for _, h := range l.hosts {
			if !h.off {
				h.kill()
			}
		}
		l.cabinet.kill()
	})
	return l
}

// must ends the test with an error.
func (l *Lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// Switch is a network: everybody whose card is on it hears everybody else.
type Switch struct {
	lab     *Lab
	name    string
	subnets []netip.Prefix
	nics    []*NIC
}

// Switch returns a new switch with an IPv4 and an IPv6 subnet of its own.
func (l *Lab) Switch() *Switch {
	l.t.Helper()
	n := l.switches + 1
	return l.SwitchOf(fmt.Sprintf("192.168.%d.0/24", n), fmt.Sprintf("fd00:%x::/64", n))
}

// SwitchOf returns a new switch with the given subnets. Without any, its hosts
// have their IPv6 link-local address and no other.
func (l *Lab) SwitchOf(subnets ...string) *Switch {
	l.t.Helper()
	l.switches++
	sw := &Switch{lab: l, name: fmt.Sprintf("sw%d", l.switches)}
	for _, s := range subnets {
		p, err := netip.ParsePrefix(s)
		l.must(err)
		sw.subnets = append(sw.subnets, p.Masked())
	}
	// Without snooping a multicast packet goes to everybody, as with the switches
	// that people have at home. Promiscuous, it is seen whole by captures.
	l.must(l.cabinet.ip("link add %[1]s type bridge mcast_snooping 0\nlink set %[1]s promisc on up", sw.name))
	return sw
}

// nth returns an address of a subnet. It is the same at every call.
func nth(p netip.Prefix, n int) netip.Prefix {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	b[len(b)-2] |= byte(n >> 8)
	addr, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(addr, p.Bits())
}

// budgie builds the command once.
var budgie = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "budgie-lan-") // goes with the process: see isolation
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "budgie")
	out, err := exec.Command("go", "build", "-o", file, "github.com/budgiehq/budgie/cmd/budgie").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build budgie: %w: %s", err, out)
	}
	return file, nil
})
