"""What ``gatewayfs init`` makes: directories with the right modes, files that are whole or not there."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from gatewayfs import mountpoint
from gatewayfs.config import ShareConfig
from gatewayfs.errors import UserError
from gatewayfs.runtime.durable import write_file_atomically

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL = 0x80086601, 0x40086602, 0x10
"""From linux/fs.h, for 64 bit machines: what chattr(1) uses."""


def write_new(path: Path, text: str, mode: int) -> None:
    """Write it whole, readable as ``mode`` says from its first byte on. Raises OSError."""
    write_file_atomically(path, text.encode(), mode)


def make_directories(config: ShareConfig) -> Iterator[str]:
    """Make the cache directory (0700) and the mount directory (0755, immutable); yields a line on what was not as it
    should be. Raises UserError, OSError."""
    cache, place = config.cache.directory, config.mount.directory
    assert place is not None, "init always asks for it"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_mode & 0o077:
        yield f"{cache} may be read by other users, with every file of the share; chmod 700 {cache}"
    if mountpoint.mounted_at(mountpoint.resolve(place)) is not None:
        yield f"{place} has something mounted; it was left as it is"
        return
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    if any(place.iterdir()):
        raise UserError(f"the mount directory {place} is not empty, and mounting would hide that", "name an empty one")
    if trouble := make_immutable(place):
        yield f"{place} cannot be made immutable ({trouble}): see that nothing writes there while it is not mounted"


def make_immutable(directory: Path) -> str:
    """As ``chattr +i``: nothing can be made in it. Returns why not, or ""."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(fd, FS_IOC_GETFLAGS, struct.pack("l", 0)))
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", flags | FS_IMMUTABLE_FL))
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return "its file system does not know how"
        return error.strerror or str(error)
    finally:
        os.close(fd)
    return ""


def paths_unit(config: ShareConfig) -> str:
    """The drop-in that tells systemd where the share is: see gatewayfs@.service."""
    paths = [path for path in (config.mount.directory, config.cache.directory) if path is not None]
    quoted = " ".join(f'"{path}"' for path in paths)
    return f"# Written by gatewayfs init.\n[Unit]\nRequiresMountsFor={quoted}\n"
