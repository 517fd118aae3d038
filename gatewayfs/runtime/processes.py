"""Descriptors of other processes."""

import ctypes
import errno
import os
import stat
from pathlib import Path

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def borrowed_descriptors(pid: int, pidfd: int, device: Path) -> list[int]:
    """Copies of the process's descriptors of a device; the caller closes them.

    Args:
        pidfd: of that very process, so that no later one with its number is meant.
        device: a device file. Compared by its number: in another mount namespace, or a container, it has other paths.

    Raises:
        OSError: it is not ours to look into, or is gone; or it has no such descriptor (ENODEV).
    """
    wanted = device.stat().st_rdev
    copies: list[int] = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found = entry.stat()
        except FileNotFoundError:
            continue  # closed meanwhile
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != wanted:
            continue
        copy = _libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
        if copy < 0:
            number = ctypes.get_errno()
            for other in copies:
                os.close(other)
            raise OSError(number, f"pidfd_getfd: {os.strerror(number)}")
        copies.append(copy)
    if not copies:
        raise OSError(errno.ENODEV, f"process {pid} has no descriptor of {device}")
    return copies
