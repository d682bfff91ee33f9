// Package lan is a laboratory of hosts on local networks, for tests, on one
// machine. Programs that are no tests, such as benchmarks, use it with a [TB] of
// their own.
//
//	func TestMain(m *testing.M) {
//		lan.Isolate(lan.Roles{"announce": announce})
//		os.Exit(m.Run())
//	}
//
//	func TestTwoHosts(t *testing.T) {
//		lab := lan.New(t)
//		sw := lab.Switch()
//		a, b := lab.Host("a", sw), lab.Host("b", sw)
//		a.Run("budgie", "run", "-d", "web.bun")
//		a.NIC(0).CableOut()
//		…
//		a.PowerOff()
//	}
//
// # Hosts
//
// A host is a set of namespaces: network, processes, mounts, host name. It has
// its own /run, /proc, /etc/hosts, /etc/hostname, /etc/machine-id and
// /etc/resolv.conf, loopback, network cards, firewall and data directory
// ([Host.Dir]); all other files, the ones below the test's temporary directory
// among them, are the machine's. What runs in a host:
//
//   - Programs: [Host.Command], [Host.Run], and [Host.Start] for a command made
//     elsewhere, a private containerd for instance
//     (containerdtest.StartOn(dir, h.Start)). The name "budgie" means the
//     command of this module, built once per test process.
//   - Roles: functions of the test binary, which is started again in the host.
//     It is the way to run library code there, since all its goroutines are in
//     the host: [Host.Role].
//   - Functions: [Host.Do] runs one on a thread in the host. Goroutines that it
//     starts are not in the host, but sockets stay in the one in which they were
//     opened.
//
// # Networks
//
// A switch is a bridge in a network namespace apart, the cabinet. A host's card
// is one end of a virtual cable whose other end is a port of the switch, and all
// faults but a change of address are done to that port, where the host cannot
// see them: cables out, loss, partitions. [Switch.Capture] sees every frame that
// is put on the network, those that are lost on their way included.
//
// Hosts get addresses in the subnets of the switch at once, without duplicate
// address detection; every host also has its IPv6 link-local address.
//
// # Cleaning up
//
// All of it lives in the namespaces of [Isolate] and ends with the test, or with
// the test process, however that ends. It needs root and what tools/setup.sh
// installs.
package lan
