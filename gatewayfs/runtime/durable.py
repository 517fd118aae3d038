"""Small steps that must survive power loss, and what we need to know about power loss.

A new or renamed file is durable only after its *directory* was fsynced too; these helpers do both and nothing
clever. All of them block: call them from a thread or at start.
"""

import errno
import os
from pathlib import Path

_ZEROS = bytes(1 << 20)


def fsync_directory(directory: Path) -> None:
    """Make creations, renames and removals in ``directory`` durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def datasync_path(path: str) -> bool:
    """fdatasync the file at ``path``; False when there is none. Raises OSError.

    A descriptor opened now still learns of write-back errors nobody has been told of (Linux 4.13 and later).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
    return True


def write_file_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data``: after power loss the old or the new content is there, whole. Raises OSError."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    fsync_directory(path.parent)


def preallocate(fd: int, size_bytes: int) -> None:
    """Give the file ``size_bytes`` of zeros that later writes need no new space for. Raises OSError (ENOSPC).

    Where the file system cannot promise space, zeros are written.
    """
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except OSError as problem:
        if problem.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        for offset in range(0, size_bytes, len(_ZEROS)):
            os.pwrite(fd, _ZEROS[: size_bytes - offset], offset)


def boot_identity() -> str:
    """A text that differs after every start of the machine: while it is the same, no page cache was lost.

    "" where the kernel does not say; callers then assume the worst.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def fresh_salt() -> int:
    """64 random bits, so that bytes written by users cannot pass for a checksummed frame."""
    return int.from_bytes(os.urandom(8), "little")
