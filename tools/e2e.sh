#!/bin/sh
# Make sure that the console can be tried in a real browser, and judged by axe-core: tests/e2e. Root on Debian gets
# Chromium with its driver, and npm where there is none.
set -eu

cd "$(dirname "$0")/../tests/e2e"

strict() {
    case "${CI:-}" in 1 | true) exit 1 ;; esac
}
have() {
    command -v "$1" >/dev/null 2>&1
}

PACKAGES=
have chromium || have google-chrome || PACKAGES="$PACKAGES chromium"
have chromedriver || PACKAGES="$PACKAGES chromium-driver"
# Debian's npm drags in hundreds of packages, so that it is asked for only where there is none.
{ have node && have npm; } || PACKAGES="$PACKAGES nodejs npm"

if [ -n "$PACKAGES" ] && [ "$(id -u)" = 0 ] && have apt-get; then
    echo "==> apt-get install$PACKAGES (as root, for the tests)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -qq --no-install-recommends $PACKAGES >/dev/null
    PACKAGES=
fi

if [ -n "$PACKAGES" ]; then
    echo "To try the console in a browser, install what is missing:" >&2
    echo "  Debian, Ubuntu:  sudo apt-get install$PACKAGES" >&2
    echo "  macOS:           brew install --cask google-chrome chromedriver; brew install node" >&2
    strict
    echo "Without it the tests that need it are skipped." >&2
fi

# npm keeps a copy of the lock file beside what it installed.
if have npm && { [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; }; then
    echo "==> npm ci in tests/e2e"
    if npm ci --ignore-scripts --loglevel=error; then
        touch node_modules/.package-lock.json
    else
        rm -rf node_modules
        strict
        echo "npm ci failed: the tests that need axe-core are skipped." >&2
    fi
fi
