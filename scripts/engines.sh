#!/bin/sh
# Fetches the ClickHouse engine into a cache outside the repository (make engines).
# Quick when it is there already. The version and its folder are also named in
# internal/embedded/clickhouse_launch.go.
set -eu

package='@chdb/lib-linux-x64-gnu@26.7.3-stable.1'
integrity='XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw=='
dir="${ACTIVITYFEED_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}}/activityfeed/engines/clickhouse-26.7.3"
lib="$dir/libchdb.so"

say() { printf 'engines: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

if [ -f "$lib" ]; then
	say "ClickHouse is in the cache: $lib"
	exit 0
fi

# The first 26.6 that could listen in its local mode is PR 101143.
if command -v clickhouse >/dev/null 2>&1; then
	version=$(clickhouse local --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
	# shellcheck disable=SC2086 # two words on purpose
	set -- ${version:-0 0}
	if [ "$1" -gt 26 ] || { [ "$1" -eq 26 ] && [ "$2" -ge 6 ]; }; then
		say "ClickHouse $1.$2 is on PATH: $(command -v clickhouse)"
		exit 0
	fi
fi

case "$(uname -s) $(uname -m)" in
'Linux x86_64') ;;
*) fail "no pinned package for $(uname -s) $(uname -m): put a clickhouse 26.6 or newer on PATH" ;;
esac
# The library is linked against glibc; on musl it cannot be loaded.
if ! getconf GNU_LIBC_VERSION >/dev/null 2>&1; then
	fail "the package needs glibc: put a clickhouse 26.6 or newer on PATH"
fi
for tool in npm openssl tar; do
	command -v "$tool" >/dev/null 2>&1 || fail "needs $tool: install it, or put a clickhouse 26.6 or newer on PATH"
done

mkdir -p "$dir"
# Beside its target, so that the last step is a rename and never half a file.
tmp=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

say "fetching ClickHouse 26.7 ($package, 178 MB, once)"
(cd "$tmp" && npm pack --silent "$package" >/dev/null) || fail "npm could not fetch $package"
set -- "$tmp"/*.tgz
[ $# -eq 1 ] && [ -f "$1" ] || fail "npm left no package in $tmp"

got=$(openssl dgst -sha512 -binary "$1" | openssl base64 -A)
[ "$got" = "$integrity" ] || fail "the package is not the pinned one: sha512-$got, want sha512-$integrity"

tar -xzf "$1" -C "$tmp" package/libchdb.so
mv "$tmp/package/libchdb.so" "$lib"
say "ClickHouse is in the cache: $lib"
