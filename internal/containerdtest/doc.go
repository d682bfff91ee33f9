// Package containerdtest starts a private containerd for tests, in namespaces
// of its own, so that whatever a test leaves behind, or dies of, is gone with
// the test's process: mounts, network interfaces, shims and containers. It also
// makes small images on the spot and serves them from a registry on loopback.
//
// The containerd is the distribution's or the newer one that tools/containerd
// pins; see Version. It needs root, and what tools/setup.sh installs and builds:
// both of them, runc, the standard CNI plugins, iptables and busybox-static.
package containerdtest
