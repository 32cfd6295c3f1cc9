#!/bin/sh
# Make sure that other people's software is here to judge what the senders send: tests/conformance and the tests of
# SNMP and MQTT. Root on Debian gets the packages installed, without starting their system services.
set -eu

cd "$(dirname "$0")/../tests/conformance"
PACKAGES="nghttp2-client nghttp2-server snmp snmptrapd mosquitto"
export PATH="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"

missing() {
    for program in node npm nghttp nghttpd snmptrapd mosquitto; do
        command -v "$program" >/dev/null 2>&1 || echo "$program"
    done
}

# Debian's npm drags in hundreds of packages, so that it is asked for only where there is none.
command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 || PACKAGES="$PACKAGES nodejs npm"

if [ -n "$(missing)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "==> apt-get install $PACKAGES (as root, for the tests; no system service is started)"
    # As in servers.sh: 101 means that no service may be started.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT INT TERM
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -qq --no-install-recommends $PACKAGES >/dev/null
fi

if command -v npm >/dev/null 2>&1; then
    # npm keeps a copy of the lock file beside what it installed.
    if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
        echo "==> npm ci in tests/conformance"
        if npm ci --ignore-scripts --loglevel=error; then
            touch node_modules/.package-lock.json
        else
            echo "npm ci failed; the tests that need its packages are skipped." >&2
            case "${CI:-}" in 1 | true) exit 1 ;; esac
        fi
    fi
fi

if [ -n "$(missing)" ]; then
    echo "To have every provider judged by other people's software, install: $(missing | tr '\n' ' ')" >&2
    echo "  Debian, Ubuntu:  sudo apt-get install $PACKAGES" >&2
    echo "  macOS:           brew install node nghttp2 net-snmp mosquitto" >&2
    case "${CI:-}" in 1 | true) exit 1 ;; esac
    echo "Without them the tests that need them are skipped." >&2
fi
