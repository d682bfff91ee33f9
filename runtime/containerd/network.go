//go:build linux

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

const (
	// runDir is emptied when the machine starts, as networks are: no address
	// stays taken by a container that does not run.
	runDir = "/run/budgie"
	bridge = "budgie0"
)

// pluginDirs are where distributions and people put the standard CNI plugins.
var pluginDirs = [...]string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}

// plugins are those that a bridge needs.
func plugins() []string {
	needed := []string{"bridge", "host-local"}
	if firewalld() {
		needed = append(needed, "firewall")
	}
	return needed
}

func netnsPath(id string) string { return filepath.Join(runDir, "netns", id) }

// prepareNetwork makes what the first process of a container starts in, and
// returns where its ports are as far as that is known before attach.
func (r *Runtime) prepareNetwork(ctx context.Context, cfg runtime.Config) ([]runtime.Address, error) {
	etc := r.path(cfg.ID, "etc")
	switch cfg.Spec.Network {
	case bunfile.NetworkHost:
		addrs, err := r.ports.Choose(cfg.Spec.Ports)
		return addrs, errors.Join(err, writeEtc(etc, cfg, ""))
	case bunfile.NetworkNone:
		return nil, writeEtc(etc, cfg, "")
	}
	if _, err := r.cni(nil); err != nil {
		return nil, err // before anything is made: a plugin is missing
	}
	r.step(ctx, "make the network namespace")
	if err := newNetns(netnsPath(cfg.ID)); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return nil, nil
}

// bridged reports whether a container has a place on the bridge.
func bridged(network bunfile.Network) bool {
	return network != bunfile.NetworkHost && network != bunfile.NetworkNone
}

// attach connects the network namespace of a container to the bridge, and
// returns where its ports are.
func (r *Runtime) attach(ctx context.Context, cfg runtime.Config) ([]runtime.Address, error) {
	lock, err := r.lockNetwork(ctx, cfg.ID)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	cni, err := r.cni(lock)
	if err != nil {
		return nil, err
	}
	// Nothing listens in the container yet, so that it may be connected while the
	// firewall is looked at.
	guarded := make(chan error, 1)
	go func() { guarded <- guard(ctx, r.subnet) }()
	r.step(ctx, "connect to the bridge")
	result, err := cni.AddNetworkList(ctx, cni.list, attachment(cfg.ID))
	if err != nil {
		err = fmt.Errorf("connect to the bridge %s: %w", bridge, err)
	}
	if err = errors.Join(<-guarded, err); err != nil {
		return nil, err
	}
	if firewalld() {
		r.step(ctx, "open the firewall")
		wall, err := firewall(result)
		if err == nil {
			_, err = cni.AddNetworkList(ctx, wall, attachment(cfg.ID))
		}
		if err != nil {
			return nil, fmt.Errorf("open the firewall for the bridge %s: %w", bridge, err)
		}
	}
	now, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("understand the bridge plugin: %w", err)
	}
	if len(now.IPs) == 0 {
		return nil, fmt.Errorf("the bridge %s gave no address", bridge)
	}
	ip := now.IPs[0].Address.IP.String()
	return addresses(cfg.Spec.Ports, ip), writeEtc(r.path(cfg.ID, "etc"), cfg, ip)
}

// addresses returns where the ports of a container with an address of its own
// are.
func addresses(ports []bunfile.Port, ip string) []runtime.Address {
	var addrs []runtime.Address
	for _, p := range ports {
		a := runtime.Address{ContainerPort: p.ContainerPort, Protocol: p.Protocol, HostPort: net.JoinHostPort(ip, strconv.Itoa(p.ContainerPort))}
		if a.Protocol == "" {
			a.Protocol = bunfile.TCP
		}
		addrs = append(addrs, a)
	}
	return addrs
}

// disconnect takes back what prepareNetwork and attach gave. It may be called at
// any time when the container does not run.
func (r *Runtime) disconnect(ctx context.Context, id string) error {
	path := netnsPath(id)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil // it has no network of its own, or did not get that far
	}
	lock, err := r.lockNetwork(ctx, id)
	if err != nil {
		return err
	}
	defer lock.Close()
	cni, err := r.cni(lock)
	if err != nil {
		return err
	}
	if err := r.closeFirewall(ctx, cni, id); err != nil {
		return fmt.Errorf("close the firewall for the bridge %s: %w", bridge, err)
	}
	r.step(ctx, "disconnect from the bridge")
	if err := cni.DelNetworkList(ctx, cni.list, attachment(id)); err != nil {
		return fmt.Errorf("disconnect from the bridge %s: %w", bridge, err)
	}
	r.step(ctx, "remove the network namespace")
	return removeNetns(path)
}

// closeFirewall takes back what the firewall plugin did, if the bridge gave an
// address.
func (r *Runtime) closeFirewall(ctx context.Context, cni *network, id string) error {
	result, err := cni.GetNetworkListCachedResult(cni.list, attachment(id))
	if err != nil {
		// Whoever was writing down what the bridge gave was killed: the firewall's
		// turn comes after that.
		r.log.Debug("what the bridge gave was not written to its end", "container", id, "error", err)
		return nil
	}
	if result == nil {
		return nil
	}
	wall, err := firewall(result)
	if err != nil {
		return err
	}
	if !firewalld() {
		// It may have been there when the container was started.
		if opened, err := cni.GetNetworkListCachedResult(wall, attachment(id)); err == nil && opened == nil {
			return nil
		}
	}
	r.step(ctx, "close the firewall")
	return cni.DelNetworkList(ctx, wall, attachment(id))
}

// attachment is a container's place in the network. A path on which no namespace
// is mounted, yet or any more, is not named: plugins give back what they gave
// without, and fail with it.
func attachment(id string) *libcni.RuntimeConf {
	place := &libcni.RuntimeConf{ContainerID: id, IfName: "eth0"}
	var fs unix.Statfs_t
	if path := netnsPath(id); unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC {
		place.NetNS = path
	}
	return place
}

// network is Budgie's network, and the plugins that it is made of. It stands on
// libcni itself: go-cni, around it, exits in programs built with the race
// detector, as its locks take two goroutines for one (go-deadlock with a
// runtime that its goid package does not know).
type network struct {
	*libcni.CNIConfig
	list *libcni.NetworkConfigList
}

// firewall is what lets the addresses that the bridge gave through where firewalld is:
// elsewhere the rules of guard do, which cost less. It is a list
// of its own, so that what the bridge gave is on record before: a firewall plugin
// knows by nothing else what it did, or was about to do when it was killed.
func firewall(result types.Result) (*libcni.NetworkConfigList, error) {
	given, err := json.Marshal(result)
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(fmt.Appendf(nil,
		`{"cniVersion": "0.4.0", "name": "budgie-firewall", "plugins": [{"type": "firewall", "prevResult": %s}]}`, given))
}

// cni returns the standard plugins with Budgie's network.
func (r *Runtime) cni(lock *os.File) (*network, error) {
	dirs := slices.Concat(filepath.SplitList(os.Getenv("CNI_PATH")), pluginDirs[:])
	var missing []string
	for _, p := range plugins() {
		if !slices.ContainsFunc(dirs, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, p)); return err == nil }) {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("network bridge needs the CNI plugins %s, which are not in %s: install them, on Debian and Ubuntu with \"sudo apt-get install containernetworking-plugins\", or use network: host",
			strings.Join(missing, ", "), strings.Join(dirs, ", "))
	}
	conf := fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "budgie", "plugins": [
  {"type": "bridge", "bridge": %q, "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`, bridge, filepath.Join(runDir, "cni"), r.subnet)
	list, err := libcni.NetworkConfFromBytes([]byte(conf))
	if err != nil {
		return nil, err
	}
	exec := &pluginExec{&invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: io.Discard}}, lock}
	return &network{libcni.NewCNIConfigWithCacheDir(dirs, filepath.Join(runDir, "cni"), exec), list}, nil
}

// newNetns makes a network namespace that lives as long as its path.
func newNetns(path string) error {
	if err := removeNetns(path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	result := make(chan error, 1)
	go func() { result <- unshareNetns(path) }()
	if err := <-result; err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// unshareNetns makes the namespace on a thread of its own.
func unshareNetns(path string) error {
	goruntime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		goruntime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		goruntime.UnlockOSThread()
		return err
	}
	err = errors.Join(loopbackUp(), unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""))
	// A thread that cannot come back stays locked, and ends with its goroutine.
	if serr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); serr == nil {
		goruntime.UnlockOSThread()
	}
	return err
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req)
}

func removeNetns(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // nothing is mounted there any more
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
