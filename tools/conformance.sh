#!/bin/sh
# Install the packages of npm that judge what the senders send, into tests/conformance/node_modules. Root on Debian
# gets node and npm as well.
set -eu

cd "$(dirname "$0")/../tests/conformance"

strict() {
    case "${CI:-}" in 1 | true) exit 1 ;; esac
}
have_npm() {
    command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1
}

if ! have_npm && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "==> apt-get install nodejs npm (as root, for the tests)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
fi

if ! have_npm; then
    echo "To have messages judged by other people's software, install node and npm:" >&2
    echo "  Debian, Ubuntu:  sudo apt-get install nodejs npm" >&2
    echo "  macOS:           brew install node" >&2
    strict
    echo "Without them the tests that need them are skipped." >&2
    exit 0
fi

# npm keeps a copy of the lock file beside what it installed.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    echo "==> npm ci in tests/conformance"
    if npm ci --ignore-scripts --loglevel=error; then
        touch node_modules/.package-lock.json
    else
        rm -rf node_modules
        strict
        echo "npm ci failed: the tests that need its packages are skipped." >&2
    fi
fi
