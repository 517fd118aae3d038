"""How much of the cache disk is used, by what, and what of it may go.

Every file with bytes on the disk has entries in ``eviction.Eviction``: one for a pack entry, one per ``CHUNK_BYTES``
for a sparse file, so that a file larger than the cache can go piece by piece. The books are kept by the changes
themselves: records say where bytes lie and whether the bucket has them (``observe``, called with each transaction),
live files say what they wrote, fetched or cut off (``follow``). Nothing is counted by walking, but for one walk after a
start.

What may go: bytes the bucket has too, of a linked file, with no work pending on it. Of a file that is open and being
written, what lies below its first change since the last upload is in the bucket as well (``Content.clean_end``): this
is how a file larger than the cache can be written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gatewayfs.cache.eviction import Eviction, Hold
from gatewayfs.cache.extents import Extents
from gatewayfs.cache.packs import ENTRY_HEADER_BYTES, Packs
from gatewayfs.cache.vouched import is_clean
from gatewayfs.meta.schema import PLACED_IN_PACK, Inode, Placement

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content

CHUNK_BYTES = 4 << 20
"""What of a large file goes at a time: half a second of a 100 Mbit/s link, and 36 MB of memory per TiB of cache."""

_CHUNK_BITS = 21
"""Two million chunks are 8 TiB; an object ends at 5."""


def key_of(ino: int, chunk: int, packed: bool) -> int:
    """The name of an entry."""
    return ino << _CHUNK_BITS + 1 | chunk << 1 | packed


@dataclass(frozen=True, slots=True)
class Resident:
    """What an entry's name says: which bytes of which file."""

    ino: int
    chunk: int
    packed: bool

    @classmethod
    def of(cls, key: int) -> Resident:
        """The inverse of ``key_of``."""
        return cls(key >> _CHUNK_BITS + 1, key >> 1 & (1 << _CHUNK_BITS) - 1, bool(key & 1))


def hold_of(inode: Inode) -> Hold:
    """Whether the bytes of a file that nobody changes just now may go."""
    if not is_clean(inode):
        return Hold.DIRTY
    return Hold.FREE if inode.linked and not inode.dirty_since_ns else Hold.KEPT


def chunk_sizes(placement: Placement, chunk_bytes: int) -> dict[int, int]:
    """What the chunks of a sparse file take on the disk if it has no holes."""
    extents = Extents(placement.extents)
    sizes: dict[int, int] = {}
    for start, end in extents:
        for chunk in range(start // chunk_bytes, -(-end // chunk_bytes)):
            if chunk not in sizes:
                sizes[chunk] = extents.allocated_bytes(chunk * chunk_bytes, (chunk + 1) * chunk_bytes)
    return sizes


def without(inode: Inode, number: int, start: int, end: int) -> Inode:
    """The record of a file without a range of its sparse file ``number``."""
    placement = inode.placement
    if placement is None or placement.kind == PLACED_IN_PACK or placement.pack != number:
        return inode
    extents = Extents(placement.extents)
    extents.remove(start, end)
    kept = msgspec.structs.replace(placement, extents=extents.flat) if extents else None
    return msgspec.structs.replace(inode, placement=kept)


class Room:
    """The books of one cache.

    Args:
        chunk_bytes: what of a sparse file goes at a time.
    """

    def __init__(self, packs: Packs, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.chunk_bytes = chunk_bytes
        self.entries = Eviction()
        self._packs = packs
        self._chunks: dict[int, int] = {}
        """How many chunks a file has, of those with more than one."""
        self._sparse_bytes = 0
        self.reads = self.misses = 0
        """Reads that reached us, and how often one of them had to wait for the bucket."""
        self.grown: Callable[[], None] = _ignored
        """Called when something was added."""
        self.pinned: Callable[[Inode], bool] = _none
        self.excluded: Callable[[Inode], bool] = _none
        """Whether a file never leaves the site. Its bytes stay, and writers do not wait for them to be uploaded."""
        self.pinned_bytes_max = math.inf
        self._pinned: dict[int, int] = {}
        """Entries that are kept because of a pin, of the files that have any."""

    def __repr__(self) -> str:
        return f"<Room {self.used_bytes >> 20} MiB used, {self.dirty_bytes >> 20} MiB dirty>"

    @property
    def used_bytes(self) -> int:
        """Allocated on the disk: whole blocks of packs, whole blocks of sparse files."""
        return self._packs.used_bytes + self._sparse_bytes

    @property
    def dirty_bytes(self) -> int:
        """Of these, what only this machine has."""
        return self.entries.held_bytes(Hold.DIRTY)

    @property
    def pinned_bytes(self) -> int:
        """Of these, what is kept because somebody pinned it."""
        return self.entries.held_bytes(Hold.PINNED)

    @property
    def pinned_files(self) -> int:
        """How many files that is."""
        return len(self._pinned)

    def standing(self, inode: Inode) -> Hold:
        """Whether the bytes of a file that nobody changes just now may go, and how they are counted."""
        hold = hold_of(inode)
        if hold is Hold.FREE and self.pinned(inode):
            return Hold.PINNED
        return Hold.KEPT if hold is Hold.DIRTY and self.excluded(inode) else hold

    def keeps(self, inode: Inode, key: int) -> bool:
        """Whether an entry that may go by its record is kept because of a pin; then the books say so from now on."""
        pinned = self.pinned(inode)
        if key not in self.entries:
            return pinned
        if pinned or self.entries.hold(key) is Hold.PINNED:
            self._enter(key, self.entries.size(key), Hold.PINNED if pinned else Hold.FREE)
        return self.entries.hold(key) is Hold.PINNED

    def overflows(self, inode: Inode) -> bool:
        """Whether some of a file may go although it is pinned: more is pinned than is kept."""
        return self.standing(inode) is Hold.PINNED and any(
            self.entries.hold(key) is Hold.FREE for key in self.keys_of(inode.ino)
        )

    def holds(self, ino: int) -> bool:
        """Whether a file has bytes here."""
        return key_of(ino, 0, True) in self.entries or key_of(ino, 0, False) in self.entries or ino in self._chunks

    def keys_of(self, ino: int) -> list[int]:
        """The entries of a file."""
        keys = [key_of(ino, 0, True), *(key_of(ino, chunk, False) for chunk in range(self._chunks.get(ino, 1)))]
        return [key for key in keys if key in self.entries]

    def touch(self, ino: int, offset: int = 0) -> None:
        """A file was read for the first time since somebody uses it, or from another chunk than before."""
        if not self.entries.touch(key_of(ino, offset // self.chunk_bytes, False)):
            self.entries.touch(key_of(ino, 0, True))

    def evicted(self, key: int) -> None:
        """An entry's bytes are gone from the disk; should they come back soon, they have been missed."""
        if not key & 1:
            self._sparse_bytes -= self.entries.size(key)
        self._leave(key, remember=True)

    # ------------------------------------------------------------------ records

    def observe(self, ino: int, inode: Inode | None, content: Content | None) -> None:
        """A record changed."""
        if inode is not None and content is not None and not content.stale:
            content.learn(inode)
            hold = self.standing(inode)
            if inode.placement is not None and inode.placement.kind == PLACED_IN_PACK and not content.extents:
                self.place(ino, inode.placement, hold, cold=content.unasked)
            elif (hold, content.clean_end // self.chunk_bytes) != content.booked:
                content.hold = hold
                self.follow(content, 0, content.size)
            return
        if inode is None or inode.placement is None:
            self.forget(ino)
        else:
            self.place(ino, inode.placement, self.standing(inode))

    def place(self, ino: int, placement: Placement, hold: Hold, *, cold: bool = False) -> None:
        """A file nobody changes lies there, without holes. ``cold``: a small one that nobody has asked for yet."""
        if placement.kind == PLACED_IN_PACK:
            if key_of(ino, 0, True) not in self.entries:
                self.forget(ino)
            self._put(ino, 0, placement.length + ENTRY_HEADER_BYTES, hold, packed=True, cold=cold)
            return
        self._drop(ino, 0, packed=True)
        sizes = chunk_sizes(placement, self.chunk_bytes)
        for chunk in range(self._chunks.get(ino, 1)):
            if chunk not in sizes:
                self._drop(ino, chunk)
        for chunk, size in sizes.items():
            self._put(ino, chunk, size, hold)

    def forget(self, ino: int) -> None:
        """A file has no bytes here any more."""
        self._drop(ino, 0, packed=True)
        for chunk in range(self._chunks.pop(ino, 1)):
            self._drop(ino, chunk)

    # ------------------------------------------------------------------ live files

    def follow(self, content: Content, start: int, end: int, *, cold: bool = False) -> None:
        """Bytes between ``start`` and ``end`` of a live sparse file came, went, or changed their standing.

        Args:
            cold: they were fetched ahead; nobody has asked for them.
        """
        sparse, ino = content.sparse, content.ino
        if content.extents:
            self._drop(ino, 0, packed=True)
        content.booked = (content.hold, content.clean_end // self.chunk_bytes)
        for chunk in range(start // self.chunk_bytes, -(-end // self.chunk_bytes)):
            chunk_start, chunk_end = chunk * self.chunk_bytes, (chunk + 1) * self.chunk_bytes
            hold = content.hold
            if hold is Hold.DIRTY and chunk_end <= content.clean_end:
                hold = Hold.FREE
            self._put(ino, chunk, sparse.allocated_bytes(chunk_start, chunk_end), hold, cold=cold)

    # ------------------------------------------------------------------ inside

    def _put(self, ino: int, chunk: int, size: int, hold: Hold, *, packed: bool = False, cold: bool = False) -> None:
        key = key_of(ino, chunk, packed)
        if not packed:
            self._sparse_bytes += size - self.entries.size(key)
            if size and chunk >= self._chunks.get(ino, 1):
                self._chunks[ino] = chunk + 1
        self._enter(key, size, hold, cold=cold)
        self.grown()

    def _drop(self, ino: int, chunk: int, *, packed: bool = False) -> None:
        key = key_of(ino, chunk, packed)
        if not packed:
            self._sparse_bytes -= self.entries.size(key)
        self._leave(key)

    def _enter(self, key: int, size: int, hold: Hold, *, cold: bool = False) -> None:
        was_pinned = self.entries.hold(key) is Hold.PINNED
        if hold is Hold.PINNED:
            pinned_bytes = self.pinned_bytes - (self.entries.size(key) if was_pinned else 0)
            if pinned_bytes + size > self.pinned_bytes_max:
                hold = Hold.FREE
        self.entries.put(key, size, hold, cold=cold)
        self._count_pinned(key, (hold is Hold.PINNED and size > 0) - was_pinned)

    def _leave(self, key: int, *, remember: bool = False) -> None:
        was_pinned = self.entries.hold(key) is Hold.PINNED
        self.entries.remove(key, remember=remember)
        self._count_pinned(key, -was_pinned)

    def _count_pinned(self, key: int, difference: int) -> None:
        if difference:
            ino = Resident.of(key).ino
            count = self._pinned.pop(ino, 0) + difference
            if count:
                self._pinned[ino] = count


def _ignored() -> None:
    """Nobody evicts."""


def _none(_inode: Inode) -> bool:
    """There are none."""
    return False
