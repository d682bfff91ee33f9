//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The network of ctr --cni, as it is commonly configured: the standard plugins also make
// the firewall's rules, for each container. Budgie has rules for all in their place.
const (
	ctrNetwork = `{"cniVersion": "0.4.0", "name": "bench", "plugins": [
  {"type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.84.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "firewall"}]}`
	// ctrAddress is the first one that host-local gives.
	ctrAddress = "10.84.0.2"
)

// ctrs returns ctr in the host's network, without and with the system call
// filter that Docker and Budgie always set, and with CNI.
func (w *world) ctrs() ([]*contender, error) {
	addresses := w.path("cni")
	if err := w.configureCNI(addresses); err != nil {
		return nil, err
	}
	remove := func(ctx context.Context, name string) error {
		if err := w.ctr(ctx, "tasks", "rm", "-f", name); err != nil {
			return err
		}
		return w.ctr(ctx, "containers", "rm", name)
	}
	host := func(name string, flags ...string) *contender {
		return &contender{
			name: name,
			start: func(ctx context.Context, name string, port int) error {
				return w.ctr(ctx, slices.Concat([]string{"run", "-d", "--net-host", "--env", fmt.Sprintf("PORT=%d", port)}, flags, []string{image, name})...)
			},
			remove: remove,
		}
	}
	plain := host(nameCtr)
	plain.supervisors, plain.inMany = w.containerdProcesses, true
	cni := &contender{
		name: nameCtrCNI,
		start: func(ctx context.Context, name string, _ int) error {
			return w.ctr(ctx, "run", "-d", "--cni", "--seccomp", "--env", fmt.Sprintf("PORT=%d", serverPort), image, name)
		},
		addr: func() string { return fmt.Sprintf("%s:%d", ctrAddress, serverPort) },
		remove: func(ctx context.Context, name string) error {
			if err := remove(ctx, name); err != nil {
				return err
			}
			return os.RemoveAll(addresses) // so that the next one gets the same address
		},
	}
	return []*contender{plain, host(nameCtrSeccomp, "--seccomp"), cni}, nil
}

func (w *world) ctr(ctx context.Context, args ...string) error {
	return command(ctx, nil, "ctr", append([]string{"--address", w.containerd.Address, "--namespace", w.containerd.Namespace}, args...)...)
}

// configureCNI puts the network where ctr looks for it, which it cannot be told.
// The machine's own /etc stays as it is.
func (w *world) configureCNI(addresses string) error {
	over := w.path("etc")
	upper, work := filepath.Join(over, "upper"), filepath.Join(over, "work")
	if err := errors.Join(os.Mkdir(over, 0o700), unix.Mount("tmpfs", over, "tmpfs", 0, "")); err != nil {
		return err
	}
	w.unmount = func() {
		for _, at := range []string{"/etc", over} {
			_ = unix.Unmount(at, unix.MNT_DETACH) // not mounted if this failed half-way
		}
	}
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("mount an /etc of our own: %w", err)
	}
	const dir = "/etc/cni/net.d"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "00-bench.conflist"), fmt.Appendf(nil, ctrNetwork, addresses), 0o644)
}

// containerdProcesses are the private containerd and its shims.
func (w *world) containerdProcesses() (memory, error) {
	return processes(func(p process) bool {
		return strings.HasPrefix(p.name, "containerd") &&
			slices.ContainsFunc(p.args, func(arg string) bool { return strings.HasPrefix(arg, w.containerd.Dir) })
	})
}
