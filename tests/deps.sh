#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, where that can be done by apt-get as root; else says what is missing.
set -euo pipefail

missing=()
for tool in go node npm git; do
	command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
	echo "Missing: ${missing[*]}. Install Go 1.26 or newer, Node.js 20 or newer and git, then run this again." >&2
	exit 1
fi
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
	echo "Node.js is $(node --version); the tests need 20 or newer." >&2
	exit 1
fi

packages=()
need() { # package, then commands of which one will do
	local package=$1 command
	shift
	for command in "$@"; do
		if command -v "$command" >/dev/null; then return; fi
	done
	packages+=("$package")
}
[ -n "${CHROMIUM:-}" ] || need chromium chromium chromium-browser google-chrome
need iproute2 ip
need curl curl
need gcc gcc cc clang # the race detector links with a C compiler
need libc6-dev gcc cc clang
[ ${#packages[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
	echo "Missing, by their Debian names: ${packages[*]}. Install them (sudo apt-get install ${packages[*]}), then run this again." >&2
	exit 1
fi
echo "Installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
	cat "$log" >&2
	exit 1
fi
