#!/usr/bin/env bash
# A production S3 server for the end-to-end tests and benchmarks: Ceph's RADOS gateway, one node, loopback only.
#
#   s3-server.sh install   Debian sid's Ceph packages in a directory of their own (about 3 minutes, 1.2 GB, once)
#   s3-server.sh start     install if need be, then from nothing to the first PUT (about 20 s); no-op when running
#   s3-server.sh run CMD   CMD with the server's address and keys in its environment; starts it, and wipes it after, unless
#                          it was running or GATEWAYFS_E2E_ENDPOINT names another
#   s3-server.sh running   exit 0 when it answers
#   s3-server.sh status    its URL, its processes and their memory
#   s3-server.sh wipe      stop it and forget every byte; objects live in memory, so there is no stopping with data kept
#   s3-server.sh remove    wipe, and remove the installation
#
# Key and secret are minioadmin; S3 speaks http on PORT and https (self-signed, certificate in <instance>/tls.crt) on
# PORT+2. Servers on different ports share one installation and nothing else.
#
#   GATEWAYFS_S3_PORT=6520                  GATEWAYFS_S3_ROOT=/var/tmp/gatewayfs-s3
#   GATEWAYFS_S3_MEMORY_BYTES=6442450944    what its disk pretends to hold
#   GATEWAYFS_DEBIAN_MIRROR=URL             instead of this machine's own (Debian) or debootstrap's default (elsewhere)
#   GATEWAYFS_DEBIAN_KEYRING=FILE           when this machine's debian-archive-keyring is too old to know sid
#
# How it works. The installation is a chroot, so the host's distribution does not matter. Everything in it runs in a
# mount namespace of its own: /proc there is gone with the last process, and nothing can be left mounted. This file
# copies itself into the chroot and runs its second half there ("inside").
set -euo pipefail

PORT=${GATEWAYFS_S3_PORT:-6520}
ROOT=${GATEWAYFS_S3_ROOT:-/var/tmp/gatewayfs-s3}
MEMORY_BYTES=${GATEWAYFS_S3_MEMORY_BYTES:-6442450944}
URL=http://127.0.0.1:$PORT
READY=$ROOT/.installed          # written last: a root without it is half built
INSTANCE=/srv/s3-$PORT          # as seen from inside
PACKAGES="ceph-mon ceph-osd radosgw ceph-common curl openssl python3-minimal"

say() { printf 's3-server: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# ---------------------------------------------------------------------------------------------------- the host's half

in_root() {
    # The servers outlive this script: a FUSE mount that happens to be there now must not live on in their namespace
    # after it was unmounted everywhere else.
    # shellcheck disable=SC2016  # expanded by the inner shell
    unshare --mount --propagation private sh -c '
        sed -n "s/^[^ ]* \([^ ]*\) fuse.*/\1/p" /proc/self/mounts | while read -r mounted; do umount -l "$mounted"; done
        mount -t proc proc "$1/proc" || exit 1
        root=$1; shift
        exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
            DEBIAN_FRONTEND=noninteractive "$@"
    ' sh "$ROOT" "$@" </dev/null 9>&-
}

inside() {
    install -m 755 "$0" "$ROOT/srv/gatewayfs-s3"
    in_root GATEWAYFS_S3_PORT="$PORT" GATEWAYFS_S3_MEMORY_BYTES="$MEMORY_BYTES" timeout 180 /srv/gatewayfs-s3 inside "$1"
}

answers() {
    # An open port that speaks HTTP; /dev/tcp needs no program that the host may lack.
    local line
    { exec 3<>"/dev/tcp/127.0.0.1/$PORT"; } 2>/dev/null || return 1
    printf 'GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
    IFS= read -r -t 5 line <&3 || line=
    exec 3>&-
    [[ $line == HTTP/* ]]
}

one_at_a_time() {
    # Tests and benchmarks may want the server at the same moment; the lock goes with this process, never to a daemon.
    exec 9>"$ROOT.lock"
    flock 9
}

need_root() { [ "$(id -u)" = 0 ] || die "must be root: it makes a chroot"; }

mirror() {
    # The mirror this machine is set up with knows sid only if this machine is Debian; "" leaves it to debootstrap.
    if [ -n "${GATEWAYFS_DEBIAN_MIRROR:-}" ]; then
        printf '%s\n' "$GATEWAYFS_DEBIAN_MIRROR"
    elif grep -qx 'ID=debian' /etc/os-release; then
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
            sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p; s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]].*/\2/p' |
            grep -E '/debian/?$' | head -n 1 || true
    fi
}

install_host_tools() {
    if command -v debootstrap >/dev/null && [ -e "$(keyring)" ]; then return; fi
    command -v apt-get >/dev/null || die "needs debootstrap and Debian's archive keyring"
    say "installing debootstrap"
    export DEBIAN_FRONTEND=noninteractive
    local packages=(debootstrap debian-archive-keyring)
    apt-get install -y -q --no-install-recommends "${packages[@]}" >/dev/null 2>&1 </dev/null || {
        apt-get update -q >/dev/null
        apt-get install -y -q --no-install-recommends "${packages[@]}" >/dev/null </dev/null
    }
}

keyring() { printf '%s\n' "${GATEWAYFS_DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}"; }

install_server() {
    [ ! -e "$READY" ] || return 0
    need_root
    install_host_tools
    local log=$ROOT.install.log
    if [ -e "$ROOT" ]; then
        say "removing the half-built $ROOT"
        remove_tree
    fi
    say "installing Ceph from Debian sid into $ROOT; about 3 minutes, log in $log"
    local arguments=(--variant=minbase --include=ca-certificates --keyring="$(keyring)" sid "$ROOT")
    local from
    from=$(mirror)
    # debootstrap mounts things, too; killed in the middle it must not leave them.
    unshare --mount --propagation private debootstrap "${arguments[@]}" ${from:+"$from"} >"$log" 2>&1 || die "debootstrap failed: $(tail -n 3 "$log")"
    # No daemon may be started by its package, and apt in there reaches the mirror as apt out here does.
    printf '#!/bin/sh\nexit 101\n' >"$ROOT/usr/sbin/policy-rc.d"
    chmod 755 "$ROOT/usr/sbin/policy-rc.d"
    apt-config dump 2>/dev/null | grep -E '^Acquire::(https?::|Check-)' >"$ROOT/etc/apt/apt.conf.d/90host" || true
    cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
    for attempt in 1 2; do
        # shellcheck disable=SC2086  # one word per package
        if in_root sh -c "apt-get update -q && apt-get install -y -q --no-install-recommends $PACKAGES" >>"$log" 2>&1; then
            in_root apt-get clean
            in_root radosgw --version >"$READY.new" 2>>"$log" || die "radosgw does not run: $(tail -n 3 "$log")"
            mv "$READY.new" "$READY"
            return
        fi
        [ "$attempt" = 2 ] || sleep 5
    done
    die "apt-get failed in $ROOT: $(tail -n 5 "$log")"
}

remove_tree() {
    local left
    left=$(awk -v root="$ROOT/" 'index($2, root) == 1 {print $2}' /proc/mounts)
    [ -z "$left" ] || die "still mounted, so nothing was removed: $left"
    rm -rf --one-file-system "$ROOT"
}

ours_answers() { [ -e "$ROOT$INSTANCE/up" ] && answers; }

start() {
    need_root
    one_at_a_time
    if ours_answers; then
        say "already running on $URL"
        return
    fi
    ! answers || die "port $PORT is taken by something else; set GATEWAYFS_S3_PORT"
    install_server
    [ ! -e "$ROOT$INSTANCE" ] || inside wipe
    local log=$ROOT.start-$PORT.log
    if ! inside start >"$log" 2>&1 || ! answers; then
        say "it did not start; its output and the last lines of its logs:"
        tail -n 5 "$log" "$ROOT$INSTANCE"/log/* >&2 || true
        inside wipe
        exit 1
    fi
    rm -f "$log"
    : >"$ROOT$INSTANCE/up"
    say "S3 on $URL, $(cat "$READY")"
}

wipe() {
    need_root
    [ ! -e "$ROOT$INSTANCE" ] || inside wipe
}

run() {
    if [ -n "${GATEWAYFS_E2E_ENDPOINT:-}" ]; then exec "$@"; fi
    if ! ours_answers; then
        start
        # However the command ends, and Ctrl-C ends it first.
        trap wipe EXIT
        trap : INT TERM
    fi
    GATEWAYFS_E2E_ENDPOINT=$URL AWS_ACCESS_KEY_ID=minioadmin AWS_SECRET_ACCESS_KEY=minioadmin AWS_DEFAULT_REGION=us-east-1 "$@"
}

remove() {
    need_root
    one_at_a_time
    local instance
    for instance in "$ROOT"/srv/s3-*/; do
        if [[ $instance =~ /srv/s3-([0-9]+)/$ ]]; then GATEWAYFS_S3_PORT=${BASH_REMATCH[1]} "$0" wipe; fi
    done
    remove_tree
    rm -f "$ROOT.install.log" "$ROOT.lock"
}

# --------------------------------------------------------------------------------------------------- the chroot's half

MON_PORT=$((PORT + 270))
CONF=$INSTANCE/ceph.conf

pids() {
    # Processes whose command line names this instance's configuration, found by what they are and not by a file that
    # may be stale. Ours alone: the path holds the port.
    local directory
    for directory in /proc/[0-9]*; do
        if { tr '\0' '\n' <"$directory/cmdline"; } 2>/dev/null | grep -qxF -- "$CONF"; then
            case $(cat "$directory/comm" 2>/dev/null) in
                ceph-mon | ceph-osd | radosgw) printf '%s\n' "${directory#/proc/}" ;;
            esac
        fi
    done
}

inside_wipe() {
    local pid
    # Objects are in memory and wanted no more, so there is nothing to stop gently for.
    for pid in $(pids); do kill -9 "$pid" 2>/dev/null || true; done
    for _ in $(seq 100); do
        [ -n "$(pids)" ] || break
        sleep 0.1
    done
    [ -z "$(pids)" ] || die "processes that do not die: $(pids)"
    rm -rf "$INSTANCE"
}

wait_for() {
    local what=$1
    shift
    for _ in $(seq 150); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    die "waited in vain for $what"
}

write_configuration() {
    local subsystem
    mkdir -p "$INSTANCE"/{mon,osd,rgw,run,log}
    # On loopback, with a published password and nothing kept, Ceph's own authentication would guard nothing.
    # One replica; placement groups are few and fixed, since one OSD gains nothing from more.
    cat >"$CONF" <<END
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon_host = [v2:127.0.0.1:$MON_PORT,v1:127.0.0.1:$((MON_PORT + 1))]
mon_initial_members = a
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
public_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = $INSTANCE/run
admin_socket = $INSTANCE/run/\$name.asok
pid_file = $INSTANCE/run/\$name.pid
log_file = $INSTANCE/log/\$name.log
crash_dir = $INSTANCE/log
log_to_stderr = false
ms_crc_data = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
# A nearly full host disk is no reason for a store in memory to refuse writes.
mon_data_avail_warn = 2
mon_data_avail_crit = 1
END
    # Tracing that nobody reads costs a third of the throughput.
    for subsystem in asok auth bluestore client crush filestore finisher mon monc ms none objclass objecter optracker osd \
        paxos rados rgw rgw_access rgw_sync rocksdb throttle timer; do
        printf 'debug_%s = 0/0\n' "$subsystem"
    done >>"$CONF"
    cat >>"$CONF" <<END
[mon]
mon_data = $INSTANCE/mon
mon_cluster_log_file = $INSTANCE/log/cluster.log
[osd]
osd_data = $INSTANCE/osd
osd_objectstore = memstore
memstore_device_bytes = $MEMORY_BYTES
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 2
osd_class_update_on_start = true
osd_scrub_begin_hour = 0
osd_scrub_end_hour = 0
[client.rgw]
# radosgw asks for encryption towards the monitor unless told otherwise, and without authentication there is none.
ms_mon_client_mode = crc
rgw_data = $INSTANCE/rgw
rgw_frontends = beast endpoint=127.0.0.1:$PORT ssl_endpoint=127.0.0.1:$((PORT + 2)) ssl_certificate=$INSTANCE/tls.pem tcp_nodelay=1
rgw_thread_pool_size = 64
rgw_override_bucket_index_max_shards = 1
rgw_dns_name =
rgw_crypt_require_ssl = false
rgw_s3_auth_use_keystone = false
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_enable_quota_threads = false
rgw_enable_lc_threads = false
END
}

make_certificate() (
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$INSTANCE/tls.key" -out "$INSTANCE/tls.crt" 2>/dev/null
    cat "$INSTANCE/tls.key" "$INSTANCE/tls.crt" >"$INSTANCE/tls.pem"
)

add_storage_classes() {
    # Clients may ask for AWS's storage classes by name; here all of them are the one pool.
    local kind
    for kind in zonegroup zone; do
        radosgw-admin -c "$CONF" "$kind" get >"$INSTANCE/$kind.json"
    done
    python3 - "$INSTANCE" <<'END'
import json, pathlib, sys
names = ["STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE", "REDUCED_REDUNDANCY"]
folder = pathlib.Path(sys.argv[1])
group = json.loads((folder / "zonegroup.json").read_text())
for target in group["placement_targets"]:
    target["storage_classes"] = sorted({*target["storage_classes"], *names})
(folder / "zonegroup.json").write_text(json.dumps(group))
zone = json.loads((folder / "zone.json").read_text())
for pool in zone["placement_pools"]:
    classes = pool["val"]["storage_classes"]
    for name in names:
        classes.setdefault(name, dict(classes["STANDARD"]))
(folder / "zone.json").write_text(json.dumps(zone))
END
    for kind in zonegroup zone; do
        radosgw-admin -c "$CONF" "$kind" set --infile "$INSTANCE/$kind.json" >/dev/null
    done
}

inside_start() {
    local osd_uuid
    osd_uuid=$(cat /proc/sys/kernel/random/uuid)
    write_configuration
    make_certificate
    monmaptool --create --fsid "$(sed -n 's/^fsid = //p' "$CONF")" \
        --addv a "[v2:127.0.0.1:$MON_PORT,v1:127.0.0.1:$((MON_PORT + 1))]" "$INSTANCE/monmap" >/dev/null
    ceph-mon -c "$CONF" --mkfs -i a --monmap "$INSTANCE/monmap"
    ceph-mon -c "$CONF" -i a
    timeout 60 ceph -c "$CONF" osd new "$osd_uuid" >/dev/null
    ceph-osd -c "$CONF" -i 0 --mkfs --osd-uuid "$osd_uuid"
    ceph-osd -c "$CONF" -i 0
    wait_for "the OSD" sh -c "timeout 10 ceph -c $CONF osd stat | grep -q '1 up'"
    # The first command of radosgw-admin makes the default zone and its pools.
    timeout 100 radosgw-admin -c "$CONF" user create --uid=tests --display-name=tests \
        --access-key=minioadmin --secret-key=minioadmin >/dev/null
    add_storage_classes
    timeout 60 radosgw -c "$CONF" -n client.rgw
    wait_for "the gateway" curl -s -o /dev/null "$URL"
}

inside_status() {
    local pid
    for pid in $(pids); do
        printf '%8s  %-9s %5s MiB\n' "$pid" "$(cat "/proc/$pid/comm")" "$(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status")"
    done
}

case "${1:-} ${2:-}" in
    "run "?*) shift; run "$@" ;;
    "install ") one_at_a_time; install_server ;;
    "start ") start ;;
    "running ") ours_answers ;;
    "status ") if ours_answers; then say "S3 on $URL"; inside status; else die "not running"; fi ;;
    "wipe ") wipe ;;
    "remove ") remove ;;
    "inside start") inside_start ;;
    "inside wipe") inside_wipe ;;
    "inside status") inside_status ;;
    *) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
