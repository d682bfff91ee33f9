#!/usr/bin/env bash
# Checks that everything, tests included, is valid for the systems that CI does not
# run on, and builds the command for them. Building everything for a system for which
# nothing has been built before takes minutes each.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

targets=(darwin/arm64 windows/amd64 linux/arm64)

mkdir -p bin/tools
"$go" -C tools build -o ../bin/tools/ ./typecheck
bin/tools/typecheck "${targets[@]}" || { echo "cross: see above" >&2; exit 1; }
for target in "${targets[@]}"; do
	echo "cross: building budgie for $target"
	GOOS=${target%/*} GOARCH=${target#*/} CGO_ENABLED=0 "$go" build -o /dev/null ./cmd/budgie ||
		{ echo "cross: budgie does not build for $target" >&2; exit 1; }
done
