#!/bin/sh
# Make sure that the tests can start PostgreSQL and RabbitMQ: tests/servers runs the machine's own programs, else
# containers. Root on Debian gets the packages installed, without starting their system services.
set -eu

PACKAGES="postgresql rabbitmq-server"

have_postgres() {
    for program in /usr/lib/postgresql/*/bin/initdb /opt/homebrew/opt/postgresql@*/bin/initdb \
        /usr/local/opt/postgresql@*/bin/initdb; do
        [ -x "$program" ] && return 0
    done
    command -v initdb >/dev/null 2>&1
}
have_rabbitmq() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null 2>&1
}

if have_postgres && have_rabbitmq; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "==> apt-get install $PACKAGES (as root, for the tests; no system service is started)"
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
    apt-get install -y -qq --no-install-recommends $PACKAGES >/dev/null
    exit 0
fi

if command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
    echo "==> PostgreSQL and RabbitMQ will run in containers"
    exit 0
fi

echo "PostgreSQL and RabbitMQ are missing, and no container engine runs. To run every test:" >&2
echo "  Debian, Ubuntu:  sudo apt-get install $PACKAGES" >&2
echo "  macOS:           brew install postgresql@17 rabbitmq" >&2
case "${CI:-}" in 1 | true) exit 1 ;; esac
echo "Without them the tests that need a server are skipped." >&2
