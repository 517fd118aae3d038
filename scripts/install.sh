#!/usr/bin/env bash
# `make install`: the program in an environment of its own, /usr/local/bin/gatewayfs, and the units for systemd.
# `make uninstall` removes all of it again; shares, keys, caches and logs are never touched.
#
#   PREFIX=/usr     where; the default is /usr/local
#   DESTDIR=/stage  for packagers: units and samples only, below this directory, and nothing is activated
#   PYTHON=...      the interpreter to use, 3.11 or newer
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
library=$prefix/lib/gatewayfs
units=$destdir$prefix/lib/systemd/system
doc=$destdir$prefix/share/doc/gatewayfs

# Source below systemd/ and where it goes: what is installed and what is removed are the same list.
files() {
    cat <<END
gatewayfs@.service	$units/gatewayfs@.service
gatewayfs.target	$units/gatewayfs.target
gatewayfs-nfs.service	$units/gatewayfs-nfs.service
nfs-ganesha.service.d/gatewayfs.conf	$units/nfs-ganesha.service.d/gatewayfs.conf
sysusers.conf	$destdir$prefix/lib/sysusers.d/gatewayfs.conf
tmpfiles.conf	$destdir$prefix/lib/tmpfiles.d/gatewayfs.conf
share.toml.example	$doc/share.toml.example
logrotate.conf	$doc/logrotate.conf
END
}

say() { printf 'install: %s\n' "$*" >&2; }

activate() {
    if [ -n "$destdir" ] || [ ! -d /run/systemd/system ]; then return; fi
    if [ "$1" = install ]; then
        systemd-sysusers "$prefix/lib/sysusers.d/gatewayfs.conf"
        systemd-tmpfiles --create "$prefix/lib/tmpfiles.d/gatewayfs.conf"
    fi
    systemctl daemon-reload
}

install_program() {
    [ -z "$destdir" ] || return 0
    say "installing the program into $library (a minute or two)"
    "${PYTHON:-python3}" -m venv --clear "$library"
    "$library/bin/python" -m pip install --disable-pip-version-check --root-user-action=ignore -q .
    install -d "$prefix/bin"
    ln -sfn "$library/bin/gatewayfs" "$prefix/bin/gatewayfs"
}

case ${1:-install} in
install)
    install_program
    files | while IFS=$'\t' read -r source target; do install -D -m 0644 "systemd/$source" "$target"; done
    activate install
    say "done; next: gatewayfs init NAME, or copy ${doc#"$destdir"}/share.toml.example to /etc/gatewayfs/NAME.toml"
    ;;
uninstall)
    files | while IFS=$'\t' read -r _ target; do rm -f "$target"; done
    rmdir --ignore-fail-on-non-empty "$doc" "$units/nfs-ganesha.service.d" 2>/dev/null || true
    if [ -z "$destdir" ]; then rm -rf "$library" "$prefix/bin/gatewayfs"; fi
    activate uninstall
    say "done; /etc/gatewayfs, caches and logs are still there"
    ;;
*)
    say "write install or uninstall"
    exit 2
    ;;
esac
