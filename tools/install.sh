#!/bin/sh
# Find a Python that Tocsin runs on, then hand over to tools/install.py, which makes .venv and fills it.
#
#   tools/install.sh LOCKFILE          say what to install if Python or its venv module is missing
#   tools/install.sh LOCKFILE --apt    install it, if we are root on Debian
set -eu

may_use_apt() { [ "${2:-}" = --apt ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

apt_install() {
    echo "==> apt-get install $* (as root, because they are missing)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {
    for candidate in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ] && may_use_apt "$@"; then
    apt_install python3 python3-venv
    python=$(find_python)
fi
if [ -z "$python" ]; then
    echo "Tocsin needs Python 3.11 or newer, and there is none on PATH." >&2
    echo "  Debian, Ubuntu:  sudo apt-get install python3 python3-venv" >&2
    echo "  macOS:           brew install python" >&2
    echo "  elsewhere on this machine:  make PYTHON=/path/to/python3 ..." >&2
    exit 1
fi

# Debian ships the venv module without what fills a venv.
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
    if may_use_apt "$@"; then apt_install "$package"; fi
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "$python cannot make a virtual environment. Install its venv module:" >&2
        echo "  sudo apt-get install $package" >&2
        exit 1
    fi
fi

exec "$python" tools/install.py "$1"
