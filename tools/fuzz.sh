#!/usr/bin/env bash
# Runs every fuzz target of the module for a while: fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go} time=${1:-10s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Targets that write files try many more inputs where that costs no disk. What
# is compiled stays elsewhere: programs may not run there.
if [[ -d /dev/shm && -w /dev/shm ]]; then
	export GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}} TMPDIR=/dev/shm
fi

# fuzz runs one target. A run that ends while an input is being tried can be
# reported as failed with nothing but the deadline of -fuzztime; that is not a
# finding, and gets one more try.
fuzz() {
	local try
	for try in 1 2; do
		"$go" test -run='^$' -fuzz="^$2\$" -fuzztime="$time" "$1" 2>&1 | tee "$log" && return 0
		grep -q 'context deadline exceeded' "$log" || return 1
		! grep -q 'Failing input written' "$log" || return 1
		echo "fuzz: $1 $2: hit its own deadline, try $try of 2"
	done
	return 1
}

# Read from the sources: go test -list would have to build every package.
template='{{$p := .}}{{range .TestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}
{{end}}{{range .XTestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}
{{end}}'
mapfile -t targets < <(
	"$go" list -f "$template" ./... | while read -r package file; do
		[[ -z $file ]] || sed -nE "s|^func (Fuzz[A-Za-z0-9_]*)\(.*|$package \1|p" "$file"
	done | sort -u
)
((${#targets[@]})) || { echo "fuzz: no fuzz targets found" >&2; exit 1; }
for line in "${targets[@]}"; do
	read -r package target <<<"$line"
	echo "--- fuzz $package $target"
	fuzz "$package" "$target" || { echo "fuzz: $package $target failed" >&2; exit 1; }
done
echo "fuzz: ${#targets[@]} targets, $time each"
