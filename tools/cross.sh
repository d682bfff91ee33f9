#!/usr/bin/env bash
# Builds and vets everything, tests included, for the systems that CI does not
# run on.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

for target in darwin/arm64 windows/amd64 linux/arm64; do
	echo "cross: $target"
	export GOOS=${target%/*} GOARCH=${target#*/} CGO_ENABLED=0
	"$go" build ./... || { echo "cross: $target does not build" >&2; exit 1; }
	"$go" vet ./... || { echo "cross: $target does not vet" >&2; exit 1; }
done
