#!/usr/bin/env bash
# Builds what bench/join compares Budgie with: the ctr of the containerd that
# tools/containerd pins.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p bin/tools
CGO_ENABLED=0 "${GO:-go}" -C tools/containerd build -trimpath -o ../../bin/tools/ctr \
	github.com/containerd/containerd/v2/cmd/ctr
