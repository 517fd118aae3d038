"""Bytes that the cache disk gives back changed, and what becomes of them.

    the bucket has them, too       they leave the cache: the next read fetches them
    only here                      they are *fenced*: reads answer EIO, uploads wait, ``status`` names the file

A fence ends when its bytes are written anew, cut off, or their file removed. A false alarm would take a file from its
owner that nobody else has, so nothing is fenced by one look: it is read twice, both times with its range held against
writers, evictions and fetches, and has to be wrong both times. Where the disk has changed what the page cache still has
right, it is written once more.
"""

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gatewayfs.cache.blocks import (
    fingerprint_in_memory,
    fingerprint_on_disk,
    forget_pages,
    read_through,
    write_through,
)
from gatewayfs.cache.fences import Fences
from gatewayfs.cache.packs import Packs, intact, intact_on_disk
from gatewayfs.cache.room import Room, without
from gatewayfs.cache.vouched import at_rest, is_clean, vouched
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_FILE, PLACED_IN_PACK, Inode, Placement
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.disk import translated
from gatewayfs.runtime.fingerprints import DIGEST_BYTES, fingerprint_of
from gatewayfs.runtime.offload import Offloader

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content

log = logging.getLogger(__name__)


class Verdict(enum.Enum):
    """What became of a block that looked wrong."""

    SOUND = enum.auto()
    """It is right, or nobody knows what it must be any more."""
    REWRITTEN = enum.auto()
    """Memory had it right, and the disk has it again."""
    DROPPED = enum.auto()
    FENCED = enum.auto()


@dataclass(frozen=True, slots=True)
class _Expected:
    digest: bytes
    cell_bytes: int
    clean: bool
    revision: int


class Damage:
    """The damage of one cache.

    Args:
        freeing: as in ``CacheParts``.
    """

    def __init__(
        self,
        meta: MetaStore,
        packs: Packs,
        offload: Offloader,
        room: Room,
        clock: Clock,
        freeing: Callable[[int, Placement], Callable[[], None]],
    ) -> None:
        self._meta, self._packs, self._offload, self._room = meta, packs, offload, room
        self._freeing = freeing
        self.fences = Fences(meta, clock)
        self.dropped = 0
        """Cells and pack entries that were not what they must be, and left."""
        self.rewritten = 0
        """The same, which the page cache had right, and were written again."""

    def __repr__(self) -> str:
        return f"<Damage {self.dropped} dropped, {self.fences!r}>"

    # ------------------------------------------------------------------ sparse files

    async def judge(self, content: "Content", start: int, end: int, *, on_disk: bool) -> Verdict:
        """Look again at a cell of a live sparse file that looked wrong, and deal with it if it is.

        Args:
            on_disk: ask the disk, not the page cache.

        Raises:
            CacheDiskFailed: it is only here, and cannot be read.
        """
        # Somebody may have written meanwhile: only when nobody can is it certain.
        async with content.gate.hold(start, end):
            expected = self._expected(content, start, end)
            if expected is None or (on_disk and await self._matches(content, start, end, expected, on_disk=True)):
                return Verdict.SOUND
            if await self._matches(content, start, end, expected, on_disk=False):
                return await self._rewritten(content, start, end, expected) if on_disk else Verdict.SOUND
            # Once more, from the disk.
            await self._offload.run(forget_pages, content.sparse.path, start, end - start)
            if await self._matches(content, start, end, expected, on_disk=False):
                return Verdict.SOUND
            if self._expected(content, start, end) != expected:
                return Verdict.SOUND
            return self._lose(content, start, end, expected)

    def _expected(self, content: "Content", start: int, end: int) -> _Expected | None:
        """What the cell must be; None when that is not known (any more)."""
        inode = self._meta.inode(content.ino)
        if not content.extents.covers(start, end) or not at_rest(content, inode):
            return None
        known = vouched(self._meta, inode)
        for cell_start, cell_end, digest in known.cells(start, end) if known is not None else ():
            if (cell_start, cell_end) == (start, end):
                assert known is not None
                return _Expected(digest, known.cell_bytes, known.clean, known.revision)
        return None

    async def _matches(self, content: "Content", start: int, end: int, expected: _Expected, *, on_disk: bool) -> bool:
        length, cell_bytes = end - start, expected.cell_bytes
        try:
            file = content.sparse.open()
            with content.readers.reading(start, end):
                if on_disk:
                    path = content.sparse.path
                    found = await self._offload.run(fingerprint_on_disk, path, start, length, cell_bytes)
                else:
                    found = await self._offload.run(fingerprint_in_memory, file, start, length, cell_bytes)
        except OSError as problem:
            what = f"bytes {start}..{end} of {content.sparse.path.name} cannot be read"
            if not expected.clean:
                raise translated(problem, what) from problem
            log.warning("%s: %s", what, problem)
            return False
        return found == expected.digest

    async def _rewritten(self, content: "Content", start: int, end: int, expected: _Expected) -> Verdict:
        """The page cache has it right: let the disk have it once more."""
        path, length = content.sparse.path, end - start
        try:
            data = await self._offload.run(read_through, path, start, length)
            data += bytes(length - len(data))
            if fingerprint_of(data, expected.cell_bytes) == expected.digest:  # as it was a moment ago
                await self._offload.run(write_through, path, start, data)
        except OSError as problem:
            raise translated(problem, f"write {path.name} again") from problem
        content.sparse.fill(start, end)
        self._room.follow(content, start, end)
        self._note_rewritten(content.ino, start, end)
        return Verdict.REWRITTEN

    def _lose(self, content: "Content", start: int, end: int, expected: _Expected) -> Verdict:
        inode = self._meta.require(content.ino)
        if not expected.clean and not self._in_bucket(inode, start, end, expected):
            self.fences.add(inode, PLACED_IN_FILE, content.sparse.number, 0, start, end)
            return Verdict.FENCED
        self._note_dropped(inode, f"bytes {start}..{end} of {content.sparse.path.name} are not those of the object")
        content.sparse.drop(start, end)
        self._room.follow(content, start, end)
        with self._meta.transaction() as tx:
            tx.put(without(inode, content.sparse.number, start, end))
        return Verdict.DROPPED

    def _in_bucket(self, inode: Inode, start: int, end: int, expected: _Expected) -> bool:
        """Whether the object the inode grew from has the same cell in the same place."""
        known = self._meta.fingerprints(inode.ino)
        if known is None or not known.describes(inode.remote) or known.cell_bytes != expected.cell_bytes:
            return False
        number = start // known.cell_bytes
        as_long = end == min((number + 1) * known.cell_bytes, known.size)
        return as_long and known.digests[number * DIGEST_BYTES :][:DIGEST_BYTES] == expected.digest

    # ------------------------------------------------------------------ pack entries

    async def judge_packed(self, content: "Content", placement: Placement, *, on_disk: bool) -> Verdict:
        """The same of a pack entry. Arguments and errors as ``judge``."""
        path = self._packs.path(placement.pack)
        if on_disk and await self._packed_matches(path, placement, on_disk=True):
            return Verdict.SOUND
        if await self._packed_matches(path, placement, on_disk=False):
            return await self._packed_rewritten(content, path, placement) if on_disk else Verdict.SOUND
        await self._offload.run(forget_pages, path, placement.offset, placement.length)
        if await self._packed_matches(path, placement, on_disk=False):
            return Verdict.SOUND
        inode = self._meta.inode(content.ino)
        if inode is None or inode.placement != placement:
            return Verdict.SOUND
        if is_clean(inode) and not content.changed:
            self._note_dropped(inode, f"pack {placement.pack} at {placement.offset} does not match its checksum")
            with self._meta.transaction() as tx:
                tx.put(msgspec.structs.replace(inode, placement=None))
                tx.after_durable(self._freeing(content.ino, placement))
            if content.placement == placement:
                content.placement = None
            return Verdict.DROPPED
        if content.ino not in self.fences:
            self.fences.add(inode, PLACED_IN_PACK, placement.pack, placement.offset, 0, placement.length)
        return Verdict.FENCED

    async def _packed_matches(self, path: Path, placement: Placement, *, on_disk: bool) -> bool:
        try:
            if on_disk:
                return (await self._offload.run(intact_on_disk, path, [placement]))[0]
            return intact(await self._offload.run(read_through, path, placement.offset, placement.length), placement)
        except OSError as problem:
            log.warning("%s cannot be read at %d: %s", path.name, placement.offset, problem)
            return False

    async def _packed_rewritten(self, content: "Content", path: Path, placement: Placement) -> Verdict:
        """Memory has the entry right: let the disk have it once more."""
        try:
            data = await self._offload.run(read_through, path, placement.offset, placement.length)
            if intact(data, placement):
                await self._offload.run(write_through, path, placement.offset, data)
        except OSError as problem:
            raise translated(problem, f"write {path.name} again") from problem
        self._note_rewritten(content.ino, 0, placement.length)
        return Verdict.REWRITTEN

    # ------------------------------------------------------------------ both

    def _note_rewritten(self, ino: int, start: int, end: int) -> None:
        self.rewritten += 1
        log.error(
            "the cache disk damaged bytes %d..%d of %s; memory still had them, and they were written again",
            start, end, self.fences.key_of(ino),
        )  # fmt: skip

    def _note_dropped(self, inode: Inode, what: str) -> None:
        self.dropped += 1
        key = inode.remote.key if inode.remote is not None else "?"
        log.warning("the cache disk damaged bytes of %s, which are fetched again: %s", key, what)
