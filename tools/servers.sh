#!/bin/sh
# Make sure that the tests can start the real servers and programs that they judge by: tests/servers runs the machine's
# own, else PostgreSQL and RabbitMQ in containers. Root on Debian gets the packages, without starting system services.
set -eu

PACKAGES=
BREW=
PROMTOOL=

# need PROGRAM DEBIAN_PACKAGE HOMEBREW_PACKAGE: note the packages of a program that is not there.
need() {
    for folder in /usr/sbin /usr/lib/rabbitmq/bin /opt/homebrew/sbin /usr/local/sbin; do
        [ -x "$folder/$1" ] && return 0
    done
    command -v "$1" >/dev/null 2>&1 && return 0
    PACKAGES="$PACKAGES $2"
    BREW="$BREW $3"
}

have_postgres() {
    for program in /usr/lib/postgresql/*/bin/initdb /opt/homebrew/opt/postgresql@*/bin/initdb \
        /usr/local/opt/postgresql@*/bin/initdb; do
        [ -x "$program" ] && return 0
    done
    command -v initdb >/dev/null 2>&1
}

# This one program of Debian's package, which with the server and its pages would take 330 MB.
unpack_promtool() {
    echo "==> promtool into /usr/local/bin (as root, for the tests)"
    folder=$(mktemp -d)
    (
        cd "$folder"
        apt-get -qq -o APT::Sandbox::User=root download prometheus >/dev/null
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >promtool
        install -m 755 promtool /usr/local/bin/promtool
    )
    rm -rf "$folder"
}

have_postgres || { PACKAGES=" postgresql" BREW=" postgresql@17"; }
need rabbitmq-server rabbitmq-server rabbitmq
need mosquitto mosquitto mosquitto
need snmptrapd snmptrapd net-snmp
need snmptranslate "snmp erlang-snmp" net-snmp
need nghttp nghttp2-client nghttp2
need nghttpd nghttp2-server nghttp2
need nginx nginx-light nginx
need prometheus-alertmanager prometheus-alertmanager alertmanager

command -v promtool >/dev/null 2>&1 || PROMTOOL=prometheus BREW="$BREW prometheus"

[ -n "$PACKAGES$PROMTOOL" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    [ -z "$PACKAGES" ] ||
        echo "==> apt-get install$PACKAGES (as root, for the tests; no system service is started)"
    # invoke-rc.d asks this program, and 101 means no: deb-systemd-invoke and sysv scripts both obey.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT INT TERM
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    [ -z "$PACKAGES" ] || apt-get install -y -qq --no-install-recommends $PACKAGES >/dev/null
    [ -z "$PROMTOOL" ] || unpack_promtool
    exit 0
fi

case "$PACKAGES" in
*postgresql* | *rabbitmq*)
    if command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
        echo "==> PostgreSQL and RabbitMQ will run in containers"
    fi
    ;;
esac
echo "To run every test, install what is missing:" >&2
echo "  Debian, Ubuntu:  sudo apt-get install$PACKAGES${PROMTOOL:+ prometheus}" >&2
echo "  macOS:           brew install$BREW" >&2
case "${CI:-}" in 1 | true) exit 1 ;; esac
echo "Without it the tests that need it are skipped, or use a container engine where one runs." >&2
