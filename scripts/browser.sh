#!/bin/sh
# Makes a Chromium available for the tests of the web pages (make browser). Where it
# may not install one it says so and goes on: those tests are skipped then, and
# fail where CI=true.
set -u

say() { printf 'browser: %s\n' "$*"; }

for name in chromium chromium-browser google-chrome; do
	if command -v "$name" >/dev/null 2>&1; then
		say "$(command -v "$name")"
		exit 0
	fi
done
sudo=
if [ "$(id -u)" -ne 0 ]; then
	sudo='sudo -n'
	sudo -n true 2>/dev/null || { say "none on PATH: install chromium to run the tests of the web pages"; exit 0; }
fi
if ! command -v apt-get >/dev/null 2>&1; then
	say "none on PATH: install chromium with your package manager to run the tests of the web pages"
	exit 0
fi
say "installing chromium"
log=$(mktemp)
install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; }
if ! { install || { $sudo apt-get update && install; }; } >"$log" 2>&1; then
	tail -5 "$log" >&2
	say "apt-get could not install chromium (see above): the tests of the web pages are skipped"
fi
rm -f "$log"
