#!/bin/sh
# Prints the path of a Python that can build .venv; what a person has to know goes to stderr.
# On Debian and Ubuntu, as root or with sudo, it installs the venv module where that is missing.
set -eu

say() { printf 'setup: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }

candidates=${PYTHON:-python3 python3.13 python3.12 python3.11}
python=
for candidate in $candidates; do
    is_new_enough "$candidate" || continue
    if has_venv "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
    python=${python:-$candidate}
done
[ -n "$python" ] || stop "no Python 3.11 or newer found (tried: $candidates)." \
    "Install one, or name it: make PYTHON=/path/to/python3"

package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
missing="$python cannot make virtual environments (the modules venv and ensurepip are missing)."
by_hand="Install them (on Debian and Ubuntu: apt-get install $package), then run make again."
command -v apt-get >/dev/null || stop "$missing $by_hand"
if [ "$(id -u)" -eq 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    stop "$missing $by_hand"
fi
say "$missing Installing $package with apt-get ..."
$sudo apt-get update -qq >&2 || stop "apt-get update failed. $by_hand"
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" \
    >&2 || stop "apt-get could not install $package. $by_hand"
has_venv "$python" || stop "$package is installed and still: $missing"
command -v "$python"
