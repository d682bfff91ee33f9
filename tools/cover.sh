#!/usr/bin/env bash
# The coverage gate: the packages whose code decides what happens to data and
# traffic must be covered, by their own tests, to more than 90 % of their
# statements. Files after a package limit its gate to these.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

gates=(
	"./bunfile"
	"./lifecycle"
	# Who is trusted.
	"./trust"
	# The codec of the TXT record. What browses is in the same package.
	"./discovery txt.go validate.go discovery.go"
	"./balance"
	"./balance/internal/http1"
	# What is sent of a file.
	"./replica/internal/delta"
	# What is reported and when, and what is watched.
	"./replica/watch coalesce.go loop.go inotify_linux.go tree_linux.go portable.go"
)
minimum=90

profile=$(mktemp)
trap 'rm -f "$profile"' EXIT
module=$("$go" list -m)
packages=()
for gate in "${gates[@]}"; do
	read -r package files <<<"$gate"
	for file in $files; do
		# A file that was renamed would leave the gate without a word.
		[[ -e $package/$file ]] || { echo "cover: $package/$file is gone; correct the list in $0" >&2; exit 1; }
	done
	packages+=("$package")
done
"$go" test -count=1 -covermode=set -coverprofile="$profile" "${packages[@]}" || {
	echo "cover: tests fail" >&2
	exit 1
}
failed=0
for gate in "${gates[@]}"; do
	read -r package files <<<"$gate"
	# Each line after the first: package/file.go:from,to statements count
	result=$(awk -v package="$module/${package#./}/" -v files=" $files " -v min="$minimum" '
		NR == 1 || index($1, package) != 1 { next }
		{
			file = substr($1, length(package) + 1); sub(/:[^:]*$/, "", file)
			if (file ~ "/" || files != "  " && !index(files, " " file " ")) next
			if (!($1 in statements)) { statements[$1] = $2; all += $2 }
			if ($3 > 0 && !($1 in hit)) { hit[$1] = 1; covered += $2 }
		}
		END {
			if (!all) { print "no statements in " package, files; exit }
			share = 100 * covered / all
			printf "%s %.1f %% of %d statements (more than %d %% needed)", (share > min ? "ok" : "TOO LOW"), share, all, min
		}' "$profile")
	echo "cover: $package: $result"
	[[ $result == ok* ]] || failed=1
done
((failed == 0)) || { echo "cover: the gate is closed; see the lines above" >&2; exit 1; }
