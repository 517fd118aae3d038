"""Bytes read from the cache disk, compared with what is known of them.

A disk may give back other bytes than it was given, and say nothing. A pack entry is compared with its checksum whenever
it is read whole. Of sparse files the *clean* cells are compared with the fingerprints of the object they are from
(``known.py``), when they are first read while the file is in use; all of them, or one in so many (``cache.verify``).
Comparing a cell means reading it whole: for a program that reads in order that is read-ahead, for one that reads here
and there up to 1 MiB instead of its few KiB, once.

What turns out to be wrong is clean, so it is in the bucket: it leaves the cache, is counted and logged, and the read
goes on with bytes fetched anew. Where nothing is known to compare with (bytes not uploaded yet, cells that came in
pieces) the disk is believed; what its owner can do about that is docs/operating.md's business.
"""

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.room import Room, without
from gatewayfs.errors import CorruptRecord
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Placement
from gatewayfs.runtime.disk import Disk, OpenFile
from gatewayfs.runtime.fingerprints import Fingerprinter, combined
from gatewayfs.runtime.offload import Offloader

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content

log = logging.getLogger(__name__)

PIECE_BYTES = 256 << 10
"""Read at a time: fresh memory for a whole cell would cost more than its fingerprint."""


class CheckedReads:
    """Reads of resident bytes of one cache.

    Args:
        every: compare one cell in so many; 0: none, 1: all.
        freeing: as in ``CacheParts``.
    """

    def __init__(
        self,
        meta: MetaStore,
        packs: Packs,
        disk: Disk,
        offload: Offloader,
        room: Room,
        every: int,
        freeing: Callable[[int, Placement], Callable[[], None]],
    ) -> None:
        self._meta, self._packs, self._disk, self._offload = meta, packs, disk, offload
        self._room, self._every, self._freeing = room, every, freeing
        self._met = 0
        self.compared_cells = 0
        self.damaged = 0
        """Cells and pack entries that were not what they must be, and left."""

    def __repr__(self) -> str:
        return f"<CheckedReads one in {self._every}, {self.compared_cells} compared, {self.damaged} damaged>"

    async def packed(self, content: "Content", offset: int, length: int) -> bytes:
        """Bytes of a pack entry. Raises as ``Content.read``; CorruptRecord when no other copy is known."""
        placement = content.placement
        assert placement is not None
        try:
            return await self._packs.read(placement, offset, length)
        except CorruptRecord as problem:
            inode = self._meta.inode(content.ino)
            if not _clean(self._meta, content) or inode is None or inode.placement != placement:
                raise
            self._damaged(content, str(problem))
            with self._meta.transaction() as tx:
                tx.put(msgspec.structs.replace(inode, placement=None))
                tx.after_durable(self._freeing(content.ino, placement))
            content.placement = None
        return await content.read(offset, length)

    async def sparse(self, content: "Content", offset: int, length: int) -> bytes:
        """Bytes of a sparse file. Raises as ``Content.read``."""
        if self._every and not await self._sound(content, offset, offset + length):
            return await content.read(offset, length)
        return await self._disk.read(content.sparse.open(), offset, length)

    # ------------------------------------------------------------------ inside

    async def _sound(self, content: "Content", start: int, end: int) -> bool:
        """False when some of it was damaged and is not here any more."""
        cells = content.intake.known
        if cells.seen(start, end) or not _clean(self._meta, content):
            return True
        sound = True
        for cell_start, cell_end, expected in list(cells.comparable(self._meta, content.ino, start, end)):
            if not content.extents.covers(cell_start, cell_end):
                continue
            self._met += 1
            if self._met % self._every or await self._matches(content, cell_start, cell_end, expected):
                continue
            # Somebody may have written meanwhile: only when nobody can is it certain.
            async with content.gate.hold(cell_start, cell_end):
                here = content.extents.covers(cell_start, cell_end) and _clean(self._meta, content)
                if here and not await self._matches(content, cell_start, cell_end, expected):
                    if _clean(self._meta, content):
                        self._drop(content, cell_start, cell_end)
                    sound = False
        cells.see(start, end)
        return sound

    async def _matches(self, content: "Content", start: int, end: int, expected: bytes) -> bool:
        self.compared_cells += 1
        file, cell_bytes = content.sparse.open(), content.intake.known.cell_bytes(content.size)
        try:
            with content.readers.reading(start, end):
                return await self._offload.run(_fingerprint, file, start, end - start, cell_bytes) == expected
        except OSError as problem:
            log.warning("bytes %d..%d of %s cannot be read: %s", start, end, content.sparse.path.name, problem)
            return False

    def _drop(self, content: "Content", start: int, end: int) -> None:
        """The range is only in the bucket from now on."""
        self._damaged(content, f"bytes {start}..{end} of {content.sparse.path.name} are not those of the object")
        content.sparse.drop(start, end)
        self._room.follow(content, start, end)
        inode = self._meta.require(content.ino)
        with self._meta.transaction() as tx:
            tx.put(without(inode, content.sparse.number, start, end))

    def _damaged(self, content: "Content", what: str) -> None:
        self.damaged += 1
        inode = self._meta.inode(content.ino)
        key = inode.remote.key if inode is not None and inode.remote is not None else "?"
        log.warning("the cache disk damaged bytes of %s, which are fetched again: %s", key, what)


def _fingerprint(file: OpenFile, offset: int, length: int, cell_bytes: int) -> bytes:
    cell, buffer = Fingerprinter(cell_bytes), memoryview(bytearray(PIECE_BYTES))
    while length > 0 and (got := os.preadv(file.fd, [buffer[: min(length, PIECE_BYTES)]], offset)):
        cell.update(buffer[:got])
        offset, length = offset + got, length - got
    cell.update(bytes(length))  # a hole at the end need not be in the file
    return combined(cell.cells())


def _clean(meta: MetaStore, content: "Content") -> bool:
    """All bytes of it that are here are those of the object its record names."""
    if content.hold is Hold.DIRTY or content.changed or content.stale or not content.frozen or content.being_changed:
        return False
    inode = meta.inode(content.ino)
    return inode is not None and inode.remote is not None and inode.content_revision == inode.remote.content_revision
