#!/usr/bin/env bash
# Runs every test under the race detector. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ $(id -u) == 0 ]]; then
	export BUDGIE_REQUIRE_ALL=1
	echo "test: as root, so every test must run (BUDGIE_REQUIRE_ALL=1)"
else
	echo "test: not as root: tests that need root are skipped (go test -v says which);" \
		"run 'sudo make test' for all"
fi
# Those that take the longest begin first, or the last of them would run alone.
longest=(./runtime/containerd ./cmd/budgie . ./replica)
CGO_ENABLED=1 exec "${GO:-go}" test -race "$@" "${longest[@]}" ./...
