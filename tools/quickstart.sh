#!/usr/bin/env bash
# Runs the main example as somebody does who has nothing but Go and this
# repository: an empty home directory, and nothing in Go's caches.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

# Where modules come from is the machine's business and stays as it is; it may
# have been set with go env -w, which the empty home would hide.
for name in GOPROXY GOSUMDB GOPRIVATE GONOPROXY GONOSUMDB GOTOOLCHAIN GOFLAGS; do
	export "$name=$("$go" env "$name")"
done
unset GOPATH GOMODCACHE GOCACHE GOENV XDG_CACHE_HOME XDG_STATE_HOME XDG_CONFIG_HOME BUDGIE_DATA_DIR

HOME=$(mktemp -d)
export HOME
# The module cache is read-only; only Go itself removes it without ado.
trap '"$go" clean -modcache; rm -rf "$HOME"' EXIT

"$go" run ./examples/replicated-web -check </dev/null
