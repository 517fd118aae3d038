"""A device number that stays: file handles of NFS clients hold it, and so do the notes of backup programs.

Linux gives every new FUSE mount the lowest device number that nobody has (0:41, 0:42 ...), so after a restart it is
another one. nfs-ganesha's FSAL_VFS knows a FUSE file system by nothing else: every handle a client keeps would be
stale. So whoever wants number N takes all free numbers below N for a moment, by making tmpfs instances that are never
mounted (25 ms for a thousand, measured on a busy machine), frees N, and mounts.

The numbers wanted lie far above what a host uses by itself, and go with the number of the export.
"""

import contextlib
import ctypes
import fcntl
import logging
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

LOWEST = 2048
"""A host with hundreds of containers has about this many mounts of its own."""
CHOICES = 2048
FREED_S_MAX = 5.0
"""How long the number may still be held by the mount of a killed daemon: until nfs-ganesha was ended, too."""
POLL_S = 0.05

# The same on every architecture (they are newer than the unification of the tables).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC, _FSCONFIG_CMD_CREATE = 1, 1, 6
_libc = ctypes.CDLL(None, use_errno=True)


def device_for(number: int) -> int:
    """The minor device number that goes with the number of an export."""
    return LOWEST + number % CHOICES


@contextlib.contextmanager
def reserved(minor: int, lock: Path) -> Iterator[bool]:
    """While the block runs, the next mount of this host gets device number 0:``minor``; yields whether it does.

    Blocks for some tens of milliseconds; up to ``FREED_S_MAX`` when somebody has the number. Needs CAP_SYS_ADMIN.

    Args:
        lock: a file; two daemons that start at once must take turns.
    """
    with contextlib.ExitStack() as held:
        holder = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        held.callback(os.close, holder)
        fcntl.flock(holder, fcntl.LOCK_EX)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        deadline = time.monotonic() + FREED_S_MAX
        problem = "it belongs to another mount, or a program keeps the dead mount of a former gateway open"
        while True:
            try:
                if _fill(minor, held):
                    yield True
                    return
            except OSError as error:
                problem = str(error)
                break
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        log.warning("device number 0:%d cannot be had (%s): file handles of NFS clients become stale", minor, problem)
        yield False


def _fill(minor: int, held: contextlib.ExitStack) -> bool:
    """Take the free numbers below ``minor``; False when somebody else has that one. Raises OSError."""
    while True:
        taken = _tmpfs()
        found = os.minor(os.fstat(taken).st_dev)
        if found >= minor:
            os.close(taken)
            return found == minor
        held.callback(os.close, taken)


def _tmpfs() -> int:
    """A descriptor that keeps a new tmpfs alive, which is nowhere to be seen. Raises OSError."""
    context = _checked(_libc.syscall(_FSOPEN, b"tmpfs", _FSOPEN_CLOEXEC), "fsopen")
    try:
        _checked(_libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")
        return _checked(_libc.syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0), "fsmount")
    finally:
        os.close(context)


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result
