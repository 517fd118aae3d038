"""Small steps that must survive power loss, and what we need to know about power loss.

A new or renamed file is durable only after its *directory* was fsynced too; these helpers do both and nothing
clever. All of them block: call them from a thread or at start.
"""

import errno
import os
import threading
from collections.abc import Iterable
from pathlib import Path

_ZEROS = bytes(1 << 20)

SYNCED_NAMES_MAX = 100_000
"""About 20 MB of paths; beyond, forgetting them costs one fsync per directory again."""


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


class SyncedNames:
    """Files below ``root`` whose names are on disk: fdatasync keeps a file's bytes, only its directory keeps its name.

    (ext4 and XFS happen to do both at once; nothing says that others must.) Each directory is fsynced only when it has
    a name in it that was never asked for before. Safe to use from several threads.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._known: set[str] = set()
        self._mutex = threading.Lock()

    def sync(self, paths: Iterable[str]) -> None:
        """Make the names of those files that exist durable. Blocks. Raises OSError."""
        with self._mutex:
            new: set[str] = set()
            for path in paths:
                while path not in self._known and path not in new and os.path.lexists(path):
                    new.add(path)
                    if path == self._root or len(path) <= len(self._root):
                        break
                    path = os.path.dirname(path)
            new.discard(self._root)
            for directory in {os.path.dirname(path) for path in new}:
                fsync_directory(Path(directory))
            if len(self._known) > SYNCED_NAMES_MAX:
                self._known.clear()
            self._known |= new


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
