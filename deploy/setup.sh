#!/bin/sh
# Sees to it that the programs which its arguments name are on this machine:
#   setup.sh python                          prints the path of a Python that can build .venv
#   setup.sh rabbitmq postgresql chromium openssl node promtool systemd
#                                            what tests and demo start or ask; prints nothing
# On Debian and Ubuntu, as root or with sudo, it installs what is missing; elsewhere it says what
# to install and fails. What a person has to know goes to stderr.
set -eu

root=${SETUP_ROOT-} # what stands before /usr; a test sets it, to have a machine without programs
missing=            # sentences for a person
packages=           # Debian's names
services=           # what these packages would start, now and at every boot

say() { printf 'setup: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

there() {
    for program; do
        command -v "$program" >/dev/null && return
    done
    return 1
}

lacks() { # what it is in words, the package, its services
    missing="${missing:+$missing }$1."
    packages="$packages $2"
    services="$services${3:+ $3}"
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }

check_python() {
    candidates=${PYTHON:-python3 python3.13 python3.12 python3.11}
    python=
    for candidate in $candidates; do
        is_new_enough "$candidate" || continue
        if has_venv "$candidate"; then
            python=$candidate
            return
        fi
        python=${python:-$candidate}
    done
    [ -n "$python" ] || stop "no Python 3.11 or newer found (tried: $candidates)." \
        "Install one, or name it: make PYTHON=/path/to/python3"
    lacks "$python cannot make virtual environments (its modules venv and ensurepip are missing)" \
        "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
}

# The places are those in which hub/demo/servers.py looks.
check_rabbitmq() {
    [ -x "$root/usr/lib/rabbitmq/bin/rabbitmq-server" ] && return
    there rabbitmq-server && return
    lacks "RabbitMQ 3.10 or newer is missing (rabbitmq-server, rabbitmqctl)" rabbitmq-server \
        rabbitmq-server
    # Another program's Erlang keeps its port mapper.
    there epmd || services="$services epmd.socket epmd"
}

check_postgresql() {
    for initdb in "$root"/usr/lib/postgresql/*/bin/initdb; do
        [ -x "$initdb" ] && return
    done
    there initdb && return
    lacks 'PostgreSQL 13 or newer is missing (initdb, postgres)' postgresql postgresql
}

check_chromium() {
    there chromium chromium-browser google-chrome && return
    package=chromium
    if grep -qs '^ID=ubuntu' "$root/etc/os-release"; then
        package=chromium-browser # installs a snap
    fi
    lacks 'Chromium is missing (chromium, chromium-browser or google-chrome)' "$package"
}

check_openssl() {
    there openssl && return
    lacks 'OpenSSL 3 is missing (openssl)' openssl
}

check_node() {
    node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)' >/dev/null 2>&1 && return
    lacks 'Node.js 18 or newer is missing (node)' nodejs
}

check_promtool() {
    there promtool && return
    lacks "Prometheus's promtool is missing (promtool)" prometheus \
        prometheus
}

# Where the distribution has no systemd, nobody runs the units either.
check_systemd() {
    there systemd-analyze && return
    there apt-get || return 0
    lacks 'systemd-analyze is missing (systemd)' systemd
}

check() {
    missing= packages= services=
    for need; do
        "check_$need"
    done
}

forbid_starts() {
    policy=$root/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || return 0 # this machine, a container mostly, has its own rule
    # A signal must not leave a machine behind on which no service can be installed.
    trap '$sudo rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
}

disable_services() {
    there systemctl || return 0
    for service in $services; do
        $sudo systemctl --quiet disable "$service" >&2 || say "could not disable $service."
    done
}

install() {
    by_hand="Install what is missing (on Debian and Ubuntu: apt-get install$packages),"
    by_hand="$by_hand then run make again."
    there apt-get || stop "$missing $by_hand"
    if [ "$(id -u)" -eq 0 ]; then
        sudo=
    elif there sudo; then
        sudo=sudo
    else
        stop "$missing $by_hand"
    fi
    say "$missing Installing$packages with apt-get ..."
    $sudo apt-get update -qq >&2 || stop "apt-get update failed. $by_hand"
    [ -z "$services" ] || forbid_starts
    # shellcheck disable=SC2086 # a list of names
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        $packages >&2 || stop "apt-get could not install$packages. $by_hand"
    disable_services
}

PATH=$PATH:$root/usr/sbin # not on everybody's PATH, and servers are there
for need; do
    case $need in
        python | rabbitmq | postgresql | chromium | openssl | node | promtool | systemd) ;;
        *) stop "'$need' is none of python, rabbitmq, postgresql, chromium, openssl, node, promtool, systemd." ;;
    esac
done
check "$@"
if [ -n "$packages" ]; then
    install
    check "$@"
    [ -z "$packages" ] || stop "Installed, and still: $missing"
fi
for need; do
    [ "$need" != python ] || command -v "$python"
done
