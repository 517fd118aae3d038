"""Directory streams.

The offset of an entry comes from its inode number: it never changes while the entry lives, survives restarts, and new
entries come after old ones, so a directory can be read while it changes and while the bucket is still being listed. No
snapshot is kept; a handle holds nothing but its directory.

    offset 0        before "."
    offset 1        behind ".", before ".."
    offset 2 + n    behind the entry with inode number n (0: behind "..")

(NFSv4 keeps 1 and 2 for these two as well.)
"""

import itertools
from collections.abc import Callable

from gatewayfs.errors import BadHandle
from gatewayfs.meta.schema import Inode
from gatewayfs.types import ROOT_INO
from gatewayfs.vfs.share import Share

BATCH = 64
"""Entries read at a time: a good part of what fits the 32 KiB a program's getdents asks for. A reader with a small
buffer comes again for each page of 4 KiB, some 20 entries, so reading far more would be thrown away."""

DOTS = 2

Entry = tuple[bytes, Inode, int]
"""Name, record, and the offset that continues behind it."""


class Directories:
    """opendir, readdir, releasedir, fsyncdir.

    Args:
        entered: told of each directory that is read from its beginning.
    """

    def __init__(self, share: Share, entered: Callable[[int], None]) -> None:
        self._share = share
        self._entered = entered
        self._open: dict[int, int] = {}
        self._numbers = itertools.count(1)

    async def open(self, ino: int) -> int:
        """Returns a handle. Raises NotADirectory, StaleInode."""
        self._share.directory(ino)
        number = next(self._numbers)
        self._open[number] = ino
        self._share.open_directories[ino] += 1
        return number

    async def read(self, number: int, offset: int) -> list[Entry]:
        """Some entries behind ``offset`` (0 is the beginning); [] when there is none.

        Raises:
            Unavailable: the bucket has to be asked and does not answer.
        """
        ino = self._directory(number)
        directory = self._share.meta.require(ino)
        if not directory.linked:
            return []
        dots = (b".", directory, 1), (b"..", self._share.meta.require(directory.parent or ROOT_INO), DOTS)
        if offset < DOTS:
            return list(dots[offset:])
        after = offset - DOTS
        if not after:
            self._entered(ino)
            await self._share.refresh.ensure_fresh(ino)
        while True:
            batch, _ = await self._share.refresh.entries_after(ino, after, BATCH)
            inodes = [inode for child in batch if (inode := self._share.meta.inode(child)) is not None]
            found = [(inode.name, inode, inode.ino + DOTS) for inode in inodes if inode.parent == ino]
            if found or not batch:
                return found
            after = batch[-1]

    async def sync(self, number: int) -> None:
        """fsyncdir: every name changed so far survives power loss. For more see ``Files.fsync``."""
        ino = self._directory(number)
        await self._share.meta.sync()
        await self._share.fsynced(ino)

    async def release(self, number: int) -> None:
        """Close a handle; a directory that was removed meanwhile goes with its last one."""
        share, ino = self._share, self._open.pop(number)
        share.open_directories[ino] -= 1
        if share.open_directories[ino]:
            return
        del share.open_directories[ino]
        inode = share.meta.inode(ino)
        if inode is not None and not inode.linked:
            share.remove_orphan(ino)

    def _directory(self, number: int) -> int:
        try:
            return self._open[number]
        except KeyError:
            raise BadHandle(f"no open directory {number}") from None
