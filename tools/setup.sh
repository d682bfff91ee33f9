#!/usr/bin/env bash
# Installs what the tests need of the machine besides Go: a C compiler, for the
# race detector, and on Linux what looks at processes and makes network
# namespaces; and builds the containerd 2.x that they run besides the
# distribution's. Does nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

# build_containerd builds what tools/containerd pins, without the plugins that
# no test needs, into a directory of that version. internal/containerdtest looks
# for it there.
build_containerd() {
	local module=github.com/containerd/containerd/v2 version dir
	version=$("$go" -C tools/containerd list -m -f '{{.Version}}' "$module")
	dir=bin/tools/containerd-${version#v}
	[[ $dir/containerd-shim-runc-v2 -nt tools/containerd/go.mod && $dir/containerd -nt tools/containerd/go.mod ]] && return
	echo "setup: building containerd ${version#v}"
	mkdir -p "$dir"
	CGO_ENABLED=0 "$go" -C tools/containerd build -trimpath -tags 'no_btrfs no_cri no_devmapper no_tracing no_zfs' \
		-ldflags "-s -w -X $module/version.Version=${version#v}" -o "../../$dir/" \
		"$module/cmd/containerd" "$module/cmd/containerd-shim-runc-v2"
	touch "$dir"/*
}

# command:package, as Debian and Ubuntu name them
needs=(gcc:gcc ps:procps curl:curl)
if [[ $(uname -s) == Linux ]]; then
	needs+=(ip:iproute2 unshare:util-linux script:bsdutils)
	# Only root can run a private containerd, and hosts of a laboratory (internal/lan).
	if [[ $(id -u) == 0 ]]; then
		needs+=(bash:bash nft:nftables tc:iproute2 ping:iputils-ping dbus-daemon:dbus avahi-daemon:avahi-daemon avahi-browse:avahi-utils)
		needs+=(containerd:containerd runc:runc iptables:iptables busybox:busybox-static)
		# What copies of volumes are compared with.
		needs+=(rsync:rsync setfattr:attr setfacl:acl)
	fi
fi

command -v "$go" >/dev/null || {
	echo "setup: go is not in PATH; install Go 1.26 or newer from https://go.dev/dl/" >&2
	exit 1
}
# Only root can run a private containerd.
if [[ $(uname -s) == Linux && $(id -u) == 0 ]]; then
	build_containerd
fi

packages=()
for need in "${needs[@]}"; do
	command -v "${need%%:*}" >/dev/null || packages+=("${need#*:}")
done
# A C compiler without the headers of libc is of no use to the race detector.
if [[ $(uname -s) == Linux && ! -e /usr/include/stdlib.h ]] && command -v dpkg >/dev/null; then
	packages+=(libc6-dev)
fi
if [[ $(uname -s) == Linux && $(id -u) == 0 && ! -e /usr/lib/cni/bridge && ! -e /opt/cni/bin/bridge ]]; then
	packages+=(containernetworking-plugins)
fi
((${#packages[@]})) || exit 0

if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
	echo "setup: the tests need what these Debian packages hold: ${packages[*]}" >&2
	echo "setup: install them (on Debian as root: apt-get install ${packages[*]})" >&2
	exit 1
fi
echo "setup: installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
