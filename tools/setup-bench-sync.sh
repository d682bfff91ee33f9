#!/usr/bin/env bash
# Installs what bench/sync compares Budgie with, besides what the tests need:
# lsyncd and syncthing. Does nothing where they are there already.
set -euo pipefail

[[ $(uname -s) == Linux ]] || exit 0
packages=()
for name in lsyncd syncthing; do
	command -v "$name" >/dev/null || packages+=("$name")
done
((${#packages[@]})) || exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
	echo "setup-bench-sync: install ${packages[*]} (on Debian as root: apt-get install ${packages[*]})" >&2
	exit 1
fi
echo "setup-bench-sync: installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
