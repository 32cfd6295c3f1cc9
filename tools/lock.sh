#!/bin/sh
# Write requirements.lock (what Tocsin runs on) and requirements-dev.lock (that, and the tools) from pyproject.toml.
#
#   tools/lock.sh [uv pip compile options, such as --upgrade or --upgrade-package NAME]
#
# Pins hold on every platform and Python that pyproject.toml admits, and carry hashes. The build requirement is locked
# with the rest, so that building Tocsin itself fetches nothing that is not pinned.
set -eu

uv=.venv/bin/uv
build_requires=$(.venv/bin/python -c '
import tomllib
print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))')

compile() {
    output=$1
    shift
    # uv keeps the pins of a file that is there already, unless told to upgrade.
    echo "$build_requires" | $uv pip compile --quiet --universal --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --output-file "$output" pyproject.toml - "$@" >/dev/null
    if grep -nE '://|^--(index|extra|find|trusted)' "$output"; then
        echo "$output names an index or a host; it must not" >&2
        exit 1
    fi
    echo "$output: $(grep -c == "$output") packages"
}

compile requirements.lock "$@"
compile requirements-dev.lock --group dev --constraint requirements.lock "$@"
