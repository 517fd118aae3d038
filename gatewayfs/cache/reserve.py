"""Room that is kept for the records, in case other programs fill the disk.

Contents stop at ``cache.min_free``, but nobody stops the rest of the machine. A full disk must still take unlink, close
and the commit of what was acknowledged, so a file of some MiB lies in the cache directory; when the disk has nearly
nothing left it is given up, and made again when there is room.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from gatewayfs.runtime.durable import preallocate

log = logging.getLogger(__name__)

RESERVE_BYTES_MAX = 64 << 20
"""LMDB writes a few MiB per commit; this lasts for minutes of work."""

RESERVE_SHARE = 0.02
"""On a small disk: no more than this of it."""


class Reserve:
    """One file of ``size_bytes`` (0: none). ``look`` blocks for a moment: call it in a thread.

    Args:
        free_bytes: what the disk has left.
    """

    def __init__(self, path: Path, size_bytes: int, free_bytes: Callable[[], int]) -> None:
        self._path, self._size_bytes, self._free_bytes = path, size_bytes, free_bytes

    def look(self) -> None:
        """Give the reserve up, or make it again, as the disk is now."""
        if not self._size_bytes:
            return
        free, held = self._free_bytes(), self._path.exists()
        if held and free < self._size_bytes // 4:
            self._path.unlink()
            log.warning("the cache disk is full: %d MiB kept for the records are given up", self._size_bytes >> 20)
        elif not held and free > 3 * self._size_bytes:
            self._make()

    def _make(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            preallocate(fd, self._size_bytes)
        except OSError as problem:
            log.info("nothing is kept for the records: %s", problem.strerror)
            self._path.unlink()
        finally:
            os.close(fd)
