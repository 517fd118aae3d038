"""Descriptors of other processes."""

import ctypes
import os
from pathlib import Path

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def borrowed_descriptors(pid: int, pidfd: int, path: str) -> list[int]:
    """Copies of the process's descriptors that lead to ``path``; the caller closes them.

    Args:
        pidfd: of that very process, so that no later one with its number is meant.

    Raises:
        OSError: it is not ours to look into, or is gone.
    """
    copies: list[int] = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(entry) != path:
                continue
        except FileNotFoundError:
            continue  # closed meanwhile
        copy = _libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
        if copy < 0:
            number = ctypes.get_errno()
            for other in copies:
                os.close(other)
            raise OSError(number, f"pidfd_getfd: {os.strerror(number)}")
        copies.append(copy)
    return copies
