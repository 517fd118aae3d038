#!/usr/bin/env bash
# Everything `make` needs and nothing twice: system packages, then the virtual environment in .venv.
#
# Each need is tested by what it is good for (a command, a header), not by its package's name, so a machine with its
# own build of fuse or Python passes. What is missing is installed with apt-get where we are root; elsewhere the one
# command to run is printed. .venv is rebuilt when pyproject.toml or the interpreter changed, told by a hash in
# .venv/.setup-stamp. With everything there this takes a fraction of a second.
#
#   PYTHON=/path/to/python3   the interpreter to use, when the first suitable one on PATH is not the right one
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -t 2 ]; then bold=$'\e[1m' red=$'\e[1;31m' plain=$'\e[0m'; else bold='' red='' plain=''; fi
say() { printf '%ssetup:%s %s\n' "$bold" "$plain" "$*" >&2; }
die() {
    printf '%ssetup: %s%s\n' "$red" "$1" "$plain" >&2
    [ -z "${2:-}" ] || printf '       %s\n' "$2" >&2
    exit 1
}

# Two `make` at once would install into the same .venv: the second waits here.
exec 9<pyproject.toml
flock 9

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    die "no Python 3.11 or newer found (python3 is $(python3 -V 2>&1 || true))" \
        "apt-get install python3.11 (or newer), or name one: make setup PYTHON=/path/to/python3"
}

inspect_python() {
    IFS=$'\t' read -r python_version python_include python_ensurepip python_identity < <(
        "$python" - <<'END'
import importlib.util, sys, sysconfig
ensurepip = "yes" if importlib.util.find_spec("ensurepip") else "no"
identity = sys.executable + " " + sys.version.split()[0]
print("%d.%d" % sys.version_info[:2], sysconfig.get_path("include"), ensurepip, identity, sep="\t")
END
    )
}

have() { command -v "$1" >/dev/null 2>&1; }

# "package<TAB>test": the Debian package and the shell command that succeeds when what we want of it is there.
needs() {
    cat <<END
ca-certificates	[ -e /etc/ssl/certs/ca-certificates.crt ]
fuse3	have fusermount3
libfuse3-dev	have pkg-config && pkg-config --exists fuse3
pkg-config	have pkg-config
gcc	have gcc
libc6-dev	[ -e /usr/include/stdio.h ]
python$python_version-dev	[ -e "$python_include/Python.h" ]
python$python_version-venv	[ "$python_ensurepip" = yes ]
git	have git
rsync	have rsync
sqlite3	have sqlite3
attr	have setfattr
END
}

missing_packages() {
    local package test
    while IFS=$'\t' read -r package test; do
        eval "$test" || printf '%s ' "$package"
    done < <(needs)
}

apt_install() {
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # The lists may be absent or stale, so: as it is, then after an update, then once more for a slow mirror.
    for attempt in 1 2 3; do
        if [ "$attempt" != 1 ] || [ -z "$(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null)" ]; then
            apt-get update -q >>"$log" 2>&1 || true
        fi
        if apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1 </dev/null; then
            rm -f "$log"
            return
        fi
        [ "$attempt" = 1 ] || sleep 3
    done
    tail -20 "$log" >&2
    die "apt-get could not install: $*" "its whole output: $log"
}

install_system_packages() {
    local missing
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if ! have apt-get; then
        die "missing what Debian packages as: $missing" "install them with this system's package manager, then try again"
    fi
    if [ "$(id -u)" != 0 ]; then
        die "missing system packages, and installing them takes root. Run:" \
            "sudo apt-get update && sudo apt-get install --no-install-recommends $missing"
    fi
    say "installing $missing"
    # shellcheck disable=SC2086  # one word per package
    apt_install $missing
    inspect_python
    missing=$(missing_packages)
    [ -z "$missing" ] || die "installed, but still not usable: $missing"
}

install_python_packages() {
    local log
    if [ "$(cat .venv/.python 2>/dev/null)" != "$python_identity" ]; then
        # An environment of another interpreter cannot be repaired, one from an interrupted run need not be.
        say "creating .venv with $python"
        "$python" -m venv --clear .venv
        printf '%s\n' "$python_identity" >.venv/.python
    fi
    say "installing Python packages into .venv (a minute or two the first time)"
    log=$(mktemp)
    for attempt in 1 2; do
        if .venv/bin/python -m pip install --disable-pip-version-check --root-user-action=ignore -q -e '.[dev]' >"$log" 2>&1; then
            rm -f "$log"
            return
        fi
        [ "$attempt" = 2 ] || sleep 3
    done
    tail -30 "$log" >&2
    die "pip could not install the project" "its whole output: $log"
}

python=$(find_python)
inspect_python
install_system_packages

stamp="$python_identity $(sha256sum pyproject.toml | cut -c1-64)"
if [ "$(cat .venv/.setup-stamp 2>/dev/null)" != "$stamp" ] || [ ! -x .venv/bin/gatewayfs ]; then
    install_python_packages
    printf '%s\n' "$stamp" >.venv/.setup-stamp
    say "ready: .venv/bin/gatewayfs"
fi
[ "$(id -u)" = 0 ] || say "not root: mounting, and the tests that mount, will need it"
[ -e /dev/fuse ] || say "no /dev/fuse here: nothing can be mounted on this machine (modprobe fuse, or the container's devices)"
