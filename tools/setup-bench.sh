#!/usr/bin/env bash
# Installs what the benchmarks compare Budgie with, besides what the tests need:
# Docker. Does nothing where it is there already.
set -euo pipefail

[[ $(uname -s) == Linux ]] || exit 0
command -v dockerd >/dev/null && exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
	echo "setup-bench: install dockerd and docker (on Debian as root: apt-get install docker.io)" >&2
	exit 1
fi
echo "setup-bench: installing docker.io"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends docker.io </dev/null
