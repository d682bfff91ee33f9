#!/usr/bin/env bash
# Runs every test under the race detector. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
export CGO_ENABLED=1
# Programs with the race detector wait for a second before they end otherwise, and some
# tests run many of them.
export GORACE="atexit_sleep_ms=0 ${GORACE:-}"

if [[ $(id -u) == 0 ]]; then
	export BUDGIE_REQUIRE_ALL=1
	echo "test: as root, so every test must run (BUDGIE_REQUIRE_ALL=1)"
else
	echo "test: not as root: tests that need root are skipped (go test -v says which);" \
		"run 'sudo make test' for all"
fi
# Real containers take as long as half of the others, and most of the processor's time.
# They run beside the others, and behind them: what waits for a while by the clock
# finds a processor free.
containers=./runtime/containerd
module=$("$go" list -m)
mapfile -t others < <("$go" list ./... | grep -vxF "$module/${containers#./}")
"$go" build -race ./... # once, and not at the same time for both
nice -n 5 "$go" test -race "$@" "$containers" &
behind=$!
trap 'kill "$behind" 2>/dev/null || true' EXIT # an interrupt does not reach it
failed=0
# Those that take the longest begin first, or the last of them would run alone.
"$go" test -race "$@" ./cmd/budgie . ./replica "${others[@]}" || failed=1
wait "$behind" || failed=1
trap - EXIT
exit "$failed"
