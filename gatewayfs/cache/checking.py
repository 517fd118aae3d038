"""Bytes read from the cache disk, compared with what is known of them.

A disk may give back other bytes than it was given, and say nothing. A pack entry is compared with its checksum whenever
it is read whole. Of sparse files the cells somebody vouches for (``vouched.py``) are compared when they are first read
while the file is in use; all of them, or one in so many (``cache.verify``). Comparing a cell means reading it whole:
for a program that reads in order that is read-ahead, for one that reads here and there up to 1 MiB instead of its few
KiB, once.

What turns out to be wrong leaves the cache or is fenced (``damage.py``), and the read goes on with bytes fetched anew,
or fails. Where nothing is known to compare with (bytes written since the last snapshot, cells that came in pieces) the
disk is believed. What nobody reads, ``scrub.py`` does.
"""

from typing import TYPE_CHECKING

from gatewayfs.cache.blocks import fingerprint_in_memory
from gatewayfs.cache.damage import Damage, Verdict
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.vouched import at_rest, vouched
from gatewayfs.errors import CorruptRecord
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.disk import Disk

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content


class CheckedReads:
    """Reads of resident bytes of one cache.

    Args:
        every: compare one cell in so many; 0: none, 1: all.
        damage: deals with what is wrong.
    """

    def __init__(self, meta: MetaStore, packs: Packs, disk: Disk, every: int, damage: Damage) -> None:
        self._meta, self._packs, self._disk = meta, packs, disk
        self._every, self._damage = every, damage
        self._met = 0
        self.compared_cells = 0

    def __repr__(self) -> str:
        return f"<CheckedReads one in {self._every}, {self.compared_cells} compared, {self._damage!r}>"

    async def packed(self, content: "Content", offset: int, length: int) -> bytes:
        """Bytes of a pack entry. Raises as ``Content.read``; CorruptRecord when no other copy is known."""
        placement = content.placement
        assert placement is not None
        self._damage.fences.refuse(content)
        try:
            return await self._packs.read(placement, offset, length)
        except CorruptRecord:
            verdict = await self._damage.judge_packed(content, placement, on_disk=False)
            if verdict is Verdict.FENCED:
                raise
        if content.placement == placement and content.in_pack:
            return await self._packs.read(placement, offset, length)
        return await content.read(offset, length)

    async def sparse(self, content: "Content", offset: int, length: int) -> bytes:
        """Bytes of a sparse file. Raises as ``Content.read``; CorruptRecord when no other copy is known."""
        if self._every and not await self._sound(content, offset, offset + length):
            return await content.read(offset, length)
        self._damage.fences.refuse(content, offset, offset + length)
        return await self._disk.read(content.sparse.open(), offset, length)

    # ------------------------------------------------------------------ inside

    async def _sound(self, content: "Content", start: int, end: int) -> bool:
        """False when some of it was damaged and is not here any more."""
        cells, inode = content.intake.known, self._meta.inode(content.ino)
        if cells.seen(start, end) or not at_rest(content, inode):
            return True
        sound, known = True, vouched(self._meta, inode)
        for cell_start, cell_end, expected in known.cells(start, end) if known is not None else ():
            if cells.seen(cell_start, cell_end) or not content.extents.covers(cell_start, cell_end):
                continue
            self._met += 1
            assert known is not None
            if self._met % self._every:
                continue
            if not await self._matches(content, cell_start, cell_end, expected, known.cell_bytes):
                verdict = await self._damage.judge(content, cell_start, cell_end, on_disk=False)
                sound = sound and verdict is not Verdict.DROPPED
        cells.see(start, end)
        return sound

    async def _matches(self, content: "Content", start: int, end: int, expected: bytes, cell_bytes: int) -> bool:
        self.compared_cells += 1
        file = content.sparse.open()
        try:
            with content.readers.reading(start, end):
                found = await self._disk.reading.run(
                    fingerprint_in_memory, file, start, end - start, cell_bytes, abandon_on_cancel=True
                )
        except OSError as problem:
            self._disk.health.read_failed(problem)
            return False  # asked again, and told of, by who decides
        return found == expected
