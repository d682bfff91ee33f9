#!/bin/sh
# The first process of the machine that tools/cgroup2.sh starts: makes what the
# tests need of a system, runs them, and ends the machine.
export PATH=/usr/sbin:/usr/bin HOME=/ BUDGIE_REQUIRE_ALL=1 BUDGIE_TEST_CONTAINERD=2
mount -t devtmpfs none /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
mount -t proc none /proc
mount -t sysfs none /sys
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
for module in overlay veth bridge br_netfilter nf_tables nft_compat nft_chain_nat xt_conntrack xt_comment xt_MASQUERADE; do modprobe "$module"; done
ip link set lo up
hostname cgroup2

echo "=== cgroup2: $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
cd /budgie/runtime/containerd
./containerd.test -test.v -test.timeout=55m -test.run "$(cat /budgie/pattern)"
echo "=== cgroup2: the tests ended with status $?"
poweroff -f
