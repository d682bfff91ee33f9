// Package containerd runs containers of OCI images on containerd, 1.6 or newer,
// on Linux. Importing it is a choice: the root package does not depend on it.
//
// # What it does
//
// A container is a containerd container of the same id, with a snapshot of its
// image, in the namespace "budgie" unless told otherwise. What Budgie itself
// knows of it is in a directory of its own: the specification, the log, the
// pipes through which the output comes, and the files that appear in the
// container as /etc/hosts, /etc/hostname and /etc/resolv.conf. It goes on
// running when the program that started it ends or is killed, and when
// containerd is restarted; the next program takes it over by Adopt and learns
// its exit code even if it ended meanwhile.
//
// Its output waits for that program, too, up to 1 MiB, after which the container
// waits when it writes; no line is lost by a program that is killed. If the
// container ends before the next program is there, though, what nobody has read is
// lost: its shim closes the pipes then.
//
// It has containerd's default capabilities and system call filter, and cannot
// gain privileges.
//
// # Networks
//
// Network bridge, the default, gives it an address on a bridge of this machine,
// by the standard CNI plugins. This machine reaches the ports at that address;
// nothing is published by firewall rules. A chain of rules that all containers share
// lets them reach others and keeps other machines from being forwarded there; the
// firewall plugin is asked only where firewalld is installed. Network host shares the
// machine's network: then each port is a free loopback port, and the container finds
// in PORT and BUDGIE_PORT_<container_port> where to listen, as with the process
// runtime. Network none has a loopback interface alone.
//
// # Images
//
// An image is named as Docker's users do and fetched when it is not there, when
// image.pull says so: by Pull, which reports progress, or else by Create. It is
// fetched in clear from registries on this machine's loopback addresses, and
// elsewhere only where a hosts file (see WithRegistryConfig) says so, with the
// logins of Docker's configuration file and its credential helpers. A transfer
// that breaks off is resumed, in the same pull or in one within a day; one that
// stalls is given up (see WithMinThroughput). image.command replaces the image's
// command and leaves its entry point.
//
// Image and OpenBlob hand out what is here. Fetch takes an image from others: only
// what is missing, from all of them at a time, and from the registry what none of
// them has. Where containerd is configured with discard_unpacked_layers = true,
// there are no layers to hand out. Layers are unpacked by containerd, straight to
// its disk: one that expands hugely costs no memory, and what bounds it is the
// disk. Import puts images into containerd that come from no registry, and
// RemoveImage removes them.
//
// # What it leaves to others
//
// The first process of a container does not get the signals that it has no
// handler for: that is the kernel's doing. One that ignores its stop signal is
// killed when the grace is over.
package containerd
