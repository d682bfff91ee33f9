#!/usr/bin/env bash
# Runs the tests of runtime/containerd that depend on control groups where there
# are only those of version 2: in a virtual machine with Debian's kernel, since
# the version is a matter of the whole machine. CI does without, for it takes
# long where the processor is emulated. Needs root, Debian and its packages.
#
#   bash tools/cgroup2.sh [PATTERN]     PATTERN is one of go test -run
#
# Ends with the tests' status. Nothing of it stays but the packages.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
# The long ones are on one containerd; give a PATTERN for more.
pattern=${1:-'^(TestConvertMetrics|TestEmptyCgroup|TestResourcesReachTheCgroup|TestBlockIOWeight|TestOutOfMemory|TestUnseenEnd|TestStatsLimit|TestRefusedResources|TestInspectDetails)$|^(TestStartAfterReboot|TestContainerdRestart|TestAdoptAfterKill)$|^TestConformance$/^containerd-2$'}
limit=${CGROUP2_LIMIT:-60m} # of the machine's life
# KVM may be there and not work, as where this runs in a virtual machine itself.
accel=${CGROUP2_ACCEL:-tcg,thread=multi} # or kvm

[[ $(uname -s) == Linux && $(id -u) == 0 ]] && command -v apt-get >/dev/null || {
	echo "cgroup2: this needs root on Debian; on a machine that has cgroup v2 already, make test does the same" >&2
	exit 1
}
GO=$go bash tools/setup.sh
packages=()
for need in qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs ldd:libc-bin; do
	command -v "${need%%:*}" >/dev/null || packages+=("${need#*:}")
done
if ((${#packages[@]})); then
	echo "cgroup2: installing ${packages[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >/dev/null
fi

work=$(mktemp -d -t cgroup2.XXXXXX)
machine=
end() {
	if [[ $machine ]]; then
		kill "$machine" 2>/dev/null && wait "$machine" || true
	fi
	rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The kernel is unpacked, not installed.
image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
[[ $image ]] || {
	echo "cgroup2: apt does not know linux-image-cloud-amd64: run apt-get update" >&2
	exit 1
}
echo "cgroup2: downloading $image"
(cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$image" && dpkg -x "$image"_*.deb kernel)
release=${image#linux-image-}
busybox depmod -b "$work/kernel" "$release"

# put copies programs and the libraries that they are linked to.
root=$work/root
put() {
	local file lib
	for file; do
		for lib in $file $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
			install -D "$lib" "$root$lib"
		done
	done
}

mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{dev,etc,proc,run,sys,tmp,var/lib,budgie/runtime/containerd,budgie/tools,budgie/bin/tools}
for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
for name in busybox bash containerd containerd-shim-runc-v2 ctr runc iptables iptables-save iptables-restore ip6tables nft ip tc ps; do
	put "$(command -v "$name")"
done
for dir in /usr/lib/cni /opt/cni/bin /usr/lib/*/xtables; do
	if [[ -d $dir ]]; then
		put "$dir"/*
	fi
done
while read -r name; do
	[[ -e $root/usr/bin/$name || -e $root/usr/sbin/$name ]] || ln -s /bin/busybox "$root/usr/bin/$name"
done < <(busybox --list)
ln -s /bin/busybox "$root/usr/sbin/modprobe" # where the kernel looks for it
cp -r "$work/kernel/lib/modules" "$root/usr/lib/"
cp -r tools/containerd "$root/budgie/tools/"
cp -r bin/tools/containerd-* "$root/budgie/bin/tools/"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
install tools/cgroup2-guest.sh "$root/init"
printf '%s\n' "$pattern" >"$root/budgie/pattern"

echo "cgroup2: building the tests"
"$go" test -c -o "$root/budgie/runtime/containerd/containerd.test" ./runtime/containerd
CGO_ENABLED=0 "$go" build -trimpath -ldflags='-s -w' -o "$root/budgie/containerprogram" ./internal/containerprogram
# The tests build the program of their image; there is no Go in the machine.
cat >"$root/usr/bin/go" <<'GO'
#!/bin/sh
# go build … -o FILE PACKAGE
for arg; do
	if [ "$last" = -o ]; then file=$arg; fi
	last=$arg
done
exec cp "/budgie/${last##*/}" "$file"
GO
chmod +x "$root/usr/bin/go"
mke2fs -q -t ext4 -d "$root" "$work/disk" 4G >/dev/null
rm -rf "$root"

# The initial file system has what it takes to mount the disk.
first=$work/first
mkdir -p "$first"/{bin,dev,disk,lib}
cp "$(command -v busybox)" "$first/bin/"
modules=$work/kernel/lib/modules/$release
(cd "$modules" && for name in virtio_pci virtio_blk ext4; do
	file=$(grep -o "^[^:]*/$name.ko" modules.dep) || continue # it is in the kernel itself
	# Those that a module depends on stand in the order of removal.
	printf '%s\n' $(sed -n "s,^$file: *,,p" modules.dep) | tac
	printf '%s\n' "$file"
done | awk 'NF && !seen[$0]++' >"$first/modules")
i=0
while read -r file; do
	i=$((i + 1))
	cp "$modules/$file" "$first/lib/$(printf '%03d' "$i").ko"
done <"$first/modules"
cat >"$first/init" <<'INIT'
#!/bin/busybox sh
busybox mount -t devtmpfs none /dev
for module in /lib/*.ko; do busybox insmod "$module"; done
busybox mount -t ext4 /dev/vda /disk
busybox umount /dev
exec busybox switch_root /disk /init
INIT
chmod +x "$first/init"
(cd "$first" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd"

echo "cgroup2: starting the machine"
timeout --foreground "$limit" qemu-system-x86_64 -machine q35 -accel "$accel" -cpu max -smp 2 -m 2048 \
	-kernel "$work/kernel/boot/vmlinuz-$release" -initrd "$work/initrd" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off cgroup_no_v1=all" \
	-drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
	-display none -monitor none -nic none -no-reboot \
	-chardev "stdio,id=console,signal=off,logfile=$work/console" -serial chardev:console </dev/null &
machine=$! # in the background, for a trap to interrupt the wait
wait "$machine" || true
machine=
status=$(tr -d '\r' <"$work/console" | sed -n 's/^=== cgroup2: the tests ended with status \([0-9]*\)$/\1/p')
[[ $status ]] || {
	echo "cgroup2: the machine ended, or was ended after $limit, before its tests did" >&2
	exit 1
}
exit "$status"
