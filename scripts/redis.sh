#!/bin/sh
# Makes redis-server and redis-benchmark available for tests and benchmarks
# (make redis). Starts nothing: the program runs its own server.
set -eu

say() { printf 'redis: %s\n' "$*"; }

if command -v redis-server >/dev/null 2>&1; then
	say "$(redis-server --version | sed 's/ sha=.*//'): $(command -v redis-server)"
	exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
	say "no redis-server on PATH: install Redis 6.2 or newer with your package manager (brew install redis, dnf install redis)" >&2
	exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
	if ! sudo -n true 2>/dev/null; then
		say "no redis-server on PATH: run: sudo apt-get install redis-server" >&2
		exit 1
	fi
	sudo='sudo -n'
fi

say "installing redis-server"
# The package would start a system service on the usual port. A policy that says
# no (101) keeps it from that; only for this one installation, and only where the
# machine has no policy of its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
	$sudo chmod +x "$policy"
	# shellcheck disable=SC2064 # the values of now
	trap "$sudo rm -f $policy" EXIT
fi
log=$(mktemp)
if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server; } >"$log" 2>&1; then
	tail -20 "$log" >&2
	say "apt-get could not install redis-server (see above)" >&2
	exit 1
fi
rm -f "$log"
if ! command -v redis-server >/dev/null 2>&1; then
	say "redis-server was installed, but is not on PATH" >&2
	exit 1
fi
say "$(redis-server --version | sed 's/ sha=.*//'): $(command -v redis-server)"
