"""Directory streams.

The offset of an entry is its inode number: it never changes while the entry lives, survives restarts, and new entries
come after old ones, so a directory can be read while it changes and while the bucket is still being listed. No snapshot
is kept; a handle holds nothing but its directory.
"""

import itertools
from collections.abc import AsyncIterator

from gatewayfs.errors import BadHandle
from gatewayfs.meta.schema import Inode
from gatewayfs.vfs.share import Share

BATCH = 256
"""Entries read per step: what fits a kernel buffer several times over, and short enough for the event loop."""


class Directories:
    """opendir, readdir, releasedir, fsyncdir."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._open: dict[int, int] = {}
        self._numbers = itertools.count(1)

    async def open(self, ino: int) -> int:
        """Returns a handle. Raises NotADirectory, StaleInode."""
        self._share.directory(ino)
        number = next(self._numbers)
        self._open[number] = ino
        return number

    async def entries(self, number: int, offset: int) -> AsyncIterator[tuple[Inode, int]]:
        """Entries after ``offset`` (0 is the beginning) with the offset that continues behind each.

        Raises:
            Unavailable: the bucket has to be asked and does not answer.
        """
        ino = self._directory(number)
        after = offset
        while True:
            batch, complete = await self._share.refresh.entries_after(ino, after, BATCH)
            for child in batch:
                inode = self._share.meta.inode(child)
                if inode is not None and inode.parent == ino:
                    yield inode, child
            if not batch and complete:
                return
            if batch:
                after = batch[-1]

    async def sync(self, number: int) -> None:
        """fsyncdir: every name changed so far survives power loss."""
        self._directory(number)
        await self._share.meta.sync()

    async def release(self, number: int) -> None:
        """Close a handle."""
        self._open.pop(number, None)

    def _directory(self, number: int) -> int:
        try:
            return self._open[number]
        except KeyError:
            raise BadHandle(f"no open directory {number}") from None
