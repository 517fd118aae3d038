"""Is this machine fit for a gateway: kernel, FUSE, permissions, and the disk the cache lies on.

Each check is a function from facts to one ``Finding``; where the facts come from is an argument with the real place
as its default, so that tests can show each verdict. Nothing here mounts anything; the disk check writes one small
file and removes it.
"""

import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gatewayfs import mountpoint
from gatewayfs.cli.findings import Finding, fail, ok, warning
from gatewayfs.cli.render import human_bytes
from gatewayfs.config import ShareConfig

KERNEL_MIN = (5, 4)
"""Oldest long-term kernel still around; what the FUSE transport needs is older."""
CAP_SYS_ADMIN = 21
FUSE_DEVICE = os.makedev(10, 229)

FREE_BYTES_WARNING = 5 << 30
FREE_BYTES_FAIL = 256 << 20
"""Below this the records alone may not fit, and the first larger file meets ENOSPC."""
FSYNC_S_WARNING = 0.05
"""A good SSD needs about 1 ms, a hard disk 10 to 20. Every fsync of an application waits this long."""
FSYNC_ROUNDS = 8

_BAD_CACHE_TYPES = {
    "tmpfs": "is in memory: a reboot loses what is not uploaded yet",
    "ramfs": "is in memory: a reboot loses what is not uploaded yet",
    "overlay": "is an overlay, usually a container's own layer: it goes away with the container",
    "nfs": "is a network file system: slow, and its locks and fsync are another machine's promise",
    "nfs4": "is a network file system: slow, and its locks and fsync are another machine's promise",
    "cifs": "is a network file system: slow, and without the durability this needs",
    "vfat": "is FAT: no sparse files, no journal",
    "exfat": "is exFAT: no journal",
}


def host_findings(cache_directory: Path, config: ShareConfig | None) -> Iterator[Finding]:
    """Every check of this machine; ``config`` adds what depends on the share's options."""
    yield check_kernel(os.uname().release, Path("/proc/filesystems"))
    yield check_fuse_device(Path("/dev/fuse"))
    yield check_fusermount(shutil.which("fusermount3"), os.geteuid())
    allow_other = config.mount.allow_other if config is not None else os.geteuid() == 0
    yield check_permissions(os.geteuid(), Path("/proc/self/status"), Path("/etc/fuse.conf"), allow_other=allow_other)
    yield from check_request_timeouts(Path("/proc/sys/fs/fuse"), config.metadata.deadline_s if config else 30.0)
    yield from check_cache(cache_directory)
    if config is not None and config.mount.directory is not None:
        yield check_mount_directory(config.mount.directory)


def check_kernel(release: str, filesystems: Path) -> Finding:
    """Version, and whether it can do FUSE at all."""
    found = re.match(r"(\d+)\.(\d+)", release)
    if "fuse" not in filesystems.read_text().split():
        return fail("kernel", f"{release} has no FUSE", "modprobe fuse")
    if found is None or (int(found[1]), int(found[2])) < KERNEL_MIN:
        wanted = ".".join(map(str, KERNEL_MIN))
        return warning("kernel", f"{release} is older than {wanted}, the oldest tried", "upgrade the system's kernel")
    return ok("kernel", f"{release} with FUSE")


def check_fuse_device(device: Path) -> Finding:
    """Present, the right device, and ours to open."""
    in_container = "in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN"
    try:
        status = device.stat()
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != FUSE_DEVICE:
            return fail("fuse device", f"{device} is not the FUSE device", f"rm {device}; mknod {device} c 10 229")
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return fail("fuse device", f"{device} is missing", f"modprobe fuse; {in_container}")
    except OSError as error:
        return fail("fuse device", f"{device} cannot be opened: {error.strerror}", f"run as root; {in_container}")
    return ok("fuse device", f"{device} opens")


def check_fusermount(program: str | None, euid: int) -> Finding:
    """The helper that mounts for users other than root."""
    if program is None:
        make = warning if euid == 0 else fail
        return make("fusermount3", "not installed", "install the package fuse3")
    if euid != 0 and not os.stat(program).st_mode & stat.S_ISUID:
        return fail("fusermount3", f"{program} is not setuid root, so only root can mount", f"chmod u+s {program}")
    return ok("fusermount3", program)


def check_permissions(euid: int, process_status: Path, fuse_conf: Path, *, allow_other: bool) -> Finding:
    """May this user mount, and let others in."""
    if euid == 0:
        found = re.search(r"^CapEff:\s*([0-9a-f]+)", process_status.read_text(), re.MULTILINE)
        if found is not None and not int(found[1], 16) >> CAP_SYS_ADMIN & 1:
            cure = "in a container, start it with --cap-add SYS_ADMIN"
            return fail("permissions", "root without CAP_SYS_ADMIN cannot mount", cure)
        return ok("permissions", "root may mount")
    lines = fuse_conf.read_text().splitlines() if fuse_conf.exists() else []
    if allow_other and "user_allow_other" not in (line.strip() for line in lines):
        cure = f"add a line user_allow_other to {fuse_conf}, or set mount.allow_other=false"
        return fail("permissions", "mount.allow_other is set, and only root may do that here", cure)
    return ok("permissions", "may mount with fusermount3" + (", for all users" if allow_other else ", for this user"))


def check_request_timeouts(settings: Path, deadline_s: float) -> Iterator[Finding]:
    """Kernels since 6.15 can abort a FUSE connection whose daemon takes too long for one request."""
    for name in ("default_request_timeout", "max_request_timeout"):
        file = settings / name
        limit_s = int(file.read_text()) if file.exists() else 0
        if 0 < limit_s <= deadline_s + 10:
            yield warning(
                "fuse timeout",
                f"the kernel gives up a mount after {limit_s} s without an answer; a slow bucket takes longer",
                f"sysctl fs.fuse.{name}={int(deadline_s) + 60}, or a smaller metadata.deadline",
            )


def check_cache(directory: Path) -> Iterator[Finding]:
    """The disk below the cache directory: kind, room, who can read it, how long an fsync takes."""
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        yield fail("cache", f"{place} is not a directory", "name another directory with --cache-dir")
        return
    yield _cache_type(place)
    yield _cache_space(place)
    if place == directory and directory.stat().st_mode & 0o077:
        cure = f"chmod 700 {directory}"
        yield warning("cache access", f"{directory} may be read by other users, with every file of the share", cure)
    yield _cache_speed(place)


def _cache_type(place: Path) -> Finding:
    around = {str(place), *map(str, place.parents)}
    mounts = [mount for mount in mountpoint.mount_table() if mount.path in around]
    if not mounts:  # in a chroot, whose root is nobody's mount
        return warning("cache disk", f"{place} is on a disk that the mount table does not name", "use a local SSD")
    mount = max(mounts, key=lambda it: len(it.path))
    trouble = _BAD_CACHE_TYPES.get(mount.type)
    if trouble is None and mount.type.startswith("fuse"):
        trouble = "is itself a FUSE mount"
    if trouble is not None:
        return warning("cache disk", f"{place} {trouble} ({mount.type})", "use a local SSD with ext4, XFS or btrfs")
    return ok("cache disk", f"{place} on {mount.source} ({mount.type})")


def _cache_space(place: Path) -> Finding:
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    text = f"{human_bytes(free)} free"
    cure = "free some, or name a larger disk with --cache-dir"
    if disk.f_files and disk.f_favail < 10_000:
        return fail("cache space", f"only {disk.f_favail} more files fit ({text})", cure)
    if free < FREE_BYTES_FAIL:
        return fail("cache space", f"only {text}", cure)
    if free < FREE_BYTES_WARNING:
        return warning("cache space", f"only {text}", cure)
    return ok("cache space", text)


def _cache_speed(place: Path) -> Finding:
    """Write and fsync a small file a few times; the median says what an application's fsync will cost."""
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".gatewayfs-doctor-") as file:
            took = []
            for _ in range(FSYNC_ROUNDS):
                begun = time.perf_counter()
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
                took.append(time.perf_counter() - begun)
    except OSError as error:
        cure = "make it writable for this user, or name another directory with --cache-dir"
        return fail("cache writable", f"{place} cannot be written: {error.strerror}", cure)
    median_s = sorted(took)[len(took) // 2]
    text = f"writable, fsync takes {median_s * 1000:.1f} ms"
    if median_s > FSYNC_S_WARNING:
        return warning("cache writable", text, "use an SSD; every fsync of an application waits this long")
    return ok("cache writable", text)


def check_mount_directory(directory: Path) -> Finding:
    """Whether mounting there would work; a running gateway on it is fine."""
    mounted = mountpoint.mounted_at(mountpoint.resolve(directory))
    if mounted is not None and mounted.type == mountpoint.OUR_TYPE:
        return ok("mount directory", f"{directory} has {mounted.source} mounted")
    if mounted is not None and mounted.type.startswith("fuse"):
        return fail("mount directory", f"{directory} has a {mounted.type} mount", f"umount {directory}")
    if not directory.is_dir():
        return fail("mount directory", f"{directory} is not a directory", f"mkdir -p {directory}")
    if any(directory.iterdir()):
        cure = "name an empty directory, or add --set mount.options=nonempty"
        return warning("mount directory", f"{directory} is not empty", cure)
    return ok("mount directory", f"{directory} is empty")
