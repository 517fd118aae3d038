"""Mount, serve, unmount: the life of one pyfuse3 session (there can be only one per process)."""

import logging
from collections.abc import Iterable
from pathlib import Path

import pyfuse3

from gatewayfs.errors import UserError
from gatewayfs.fuse.operations import Operations

log = logging.getLogger(__name__)

REQUESTS_MAX = 99
"""Requests served at a time: pyfuse3's default, which what may wait is measured against (``cache/fetch.py``)."""


def mount(operations: Operations, mountpoint: Path, source: str, options: Iterable[str]) -> None:
    """Mount; requests wait in the kernel until ``serve``.

    Args:
        source: what ``mount`` shows as the device, for example the bucket's name.
        options: FUSE mount options besides ours.

    Raises:
        UserError: the mount was refused; the reason is libfuse's, on standard error.
    """
    wanted = {f"fsname={source}", "subtype=gatewayfs", "default_permissions", *options}
    try:
        pyfuse3.init(operations, str(mountpoint), wanted)
    except RuntimeError as problem:
        raise UserError(
            f"cannot mount on {mountpoint}: {problem}",
            "run `gatewayfs doctor` to see what is missing (/dev/fuse, fusermount3, rights)",
        ) from problem


async def serve(waiting_max: int = 0) -> None:
    """Answer requests until the file system is unmounted or ``stop`` is called.

    Args:
        waiting_max: calls that may wait for long (fsync, for the bucket) beside ``REQUESTS_MAX`` others.
    """
    await pyfuse3.main(max_tasks=REQUESTS_MAX + waiting_max)


def stop() -> None:
    """Make ``serve`` return; from the event loop's thread."""
    pyfuse3.terminate()


def unmount() -> None:
    """Unmount if still mounted, and free the session."""
    pyfuse3.close(unmount=True)
