#!/usr/bin/env bash
# Installs what bench/balance compares Budgie with, and by: HAProxy, nginx and wrk
# from the distribution, and Caddy, built from its module. Does nothing where they
# are there already.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

[[ $(uname -s) == Linux ]] || exit 0
packages=()
for name in haproxy nginx wrk; do
	command -v "$name" >/dev/null || packages+=("$name")
done
if ((${#packages[@]})); then
	if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
		echo "setup-bench-balance: install ${packages[*]} (on Debian as root: apt-get install ${packages[*]})" >&2
		exit 1
	fi
	echo "setup-bench-balance: installing ${packages[*]}"
	# The benchmark starts its own; those of the distribution would listen on port 80.
	policy=/usr/sbin/policy-rc.d
	if [[ ! -e $policy ]]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
		trap 'rm -f "$policy"' EXIT
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
fi

dir=bench/balance/caddy out=bin/tools/caddy module=github.com/caddyserver/caddy/v2
if [[ ! $out -nt $dir/go.mod ]]; then
	echo "setup-bench-balance: building Caddy, which takes minutes"
	version=$("$go" -C "$dir" list -m -f '{{.Version}}' "$module")
	mkdir -p bin/tools
	CGO_ENABLED=0 "$go" -C "$dir" build -trimpath -ldflags "-s -w -X $module.CustomVersion=$version" -o "$PWD/$out" "$module/cmd/caddy"
	touch "$out"
fi
