"""Clean bytes leave the disk before the space is needed.

A task of its own, woken when the books (``room``) pass the high watermark or the disk has less free space than it shall
keep, works down to the low watermark in batches: choose, record, sync, give back.

    choose and record    one transaction: the records do without these bytes; decided and done without an await
    sync                 the journal is on disk: power loss cannot bring the old records back
    give back            punch the hole, count the pack entry dead

From the first step to the last the range is held (``gate``): a fetch that wants it back waits, and then finds it
absent. A crash in between leaves space that nobody names; the walk after the next start gives it back.

What is chosen is checked against its record once more. Small files in use, and ranges somebody reads, writes or fetches
just now, are spared; so is what is pinned.
"""

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import msgspec
import trio

from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.limits import Limits
from gatewayfs.cache.live import Content, NoRoom
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.reserve import Reserve
from gatewayfs.cache.room import Resident, Room, hold_of, without
from gatewayfs.cache.sparse import SparseFile
from gatewayfs.errors import GatewayError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_PACK, Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.runtime.disk import punch_hole
from gatewayfs.runtime.failpoints import failpoint, register
from gatewayfs.runtime.offload import Offloader

log = logging.getLogger(__name__)

HIGH, LOW = 0.95, 0.90
"""Watermarks: eviction begins above the first and ends below the second. One batch sync costs milliseconds, so the
room between them is for what a fast link brings in that time, not for rest."""

BATCH_ENTRIES = 256
"""A batch keeps the loop busy for about 5 ms."""

LOOK_S = 1.0
"""How often the disk's free space is looked at: other programs do not tell."""

ADMIT_S = 2.0
"""How long fetched bytes wait for room. Eviction takes milliseconds; longer means that nothing may go."""
GIVING_BACK_S = 0.1
"""Threads punch and unlink; after this the disk's free space is worth another look."""

_RECORDED = register("cache.evict.recorded", "the records do without the bytes, except against power loss")
_SYNCED = register("cache.evict.synced", "the records do without the bytes; the bytes are still there")
_GIVEN_BACK = register("cache.evict.after", "the space is free")


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A chunk of a sparse file on its way out. After a truncation to nothing the content goes on with another file."""

    content: Content
    sparse: SparseFile
    start: int
    end: int
    give_back: Callable[[], None]


class Evictor:
    """Keeps the contents of one cache within their limits.

    Args:
        acquire, release, live: of ``ContentCache``.
        free_bytes: what the cache disk has left.
        reserve: looked after as often as the disk.
    """

    def __init__(
        self,
        room: Room,
        limits: Limits,
        *,
        meta: MetaStore,
        packs: Packs,
        offload: Offloader,
        acquire: Callable[[Inode], Content],
        release: Callable[[Content], None],
        live: Callable[[int], Content | None],
        free_bytes: Callable[[], int],
        reserve: Reserve,
    ) -> None:
        self.limits = limits
        self._room, self._meta, self._packs, self._offload, self._reserve = room, meta, packs, offload, reserve
        self._acquire, self._release, self._live, self._free_bytes = acquire, release, live, free_bytes
        self._wanted_bytes = self._reserved_bytes = 0
        self._leaving_bytes = 0
        """Not in the books any more, and still on the disk."""
        self._wake, self._turn = trio.Event(), trio.Event()
        self.evicted_bytes = self.evicted_count = 0
        self.stuck = False
        """Room is needed and nothing may go."""

    def __repr__(self) -> str:
        return f"<Evictor of {self._room!r}{' stuck' if self.stuck else ''}>"

    async def run(self) -> None:
        """Evict whenever it is needed, for ever."""
        while True:
            with trio.move_on_after(LOOK_S if self.limits.free_bytes_min else math.inf):
                await self._wake.wait()
            self._wake = trio.Event()
            try:
                await self.relieve()
                await self._offload.run(self._reserve.look)
            except (GatewayError, OSError) as problem:
                # Evicting takes a record, and the journal may be full: once there is room, all goes on.
                log.warning("nothing can be evicted from the cache: %s", problem)
                await self._offload.run(self._reserve.look)
                await trio.sleep(LOOK_S)

    @contextmanager
    def wanted(self, length_bytes: int) -> Iterator[None]:
        """Around a wait: evict until so many more bytes fit, even if no watermark is passed."""
        self._wanted_bytes += length_bytes
        self._wake.set()
        try:
            yield
        finally:
            self._wanted_bytes -= length_bytes

    def poke(self) -> None:
        """Something was added: wake the task if it has work now. Cheap."""
        if self._room.used_bytes > self.limits.size_bytes * HIGH:
            self._wake.set()

    @asynccontextmanager
    async def admit(self, length_bytes: int) -> AsyncIterator[None]:
        """Around a fetch: wait until its bytes have room, and keep that room until they are in the books.

        Raises NoRoom when eviction cannot make any soon.
        """
        if self.lacks(length_bytes):
            await self.make_room(length_bytes)
        self._reserved_bytes += length_bytes
        try:
            yield
        finally:
            self._reserved_bytes -= length_bytes

    def lacks(self, length_bytes: int) -> bool:
        """Whether so many more bytes find no room."""
        return self._lacking(length_bytes) > 0

    def obstacle(self, length_bytes: int) -> str:
        """Why so many more bytes find no room; "" when they do."""
        if not self.lacks(length_bytes):
            return ""
        floor = self.limits.free_bytes_min
        if floor and self._free_bytes() < floor + length_bytes:
            return f"the cache disk has less than {floor >> 20} MiB left (cache.min_free) and nothing may be evicted"
        return "the cache is full of what must stay: not uploaded yet, pinned, excluded, or in use (cache.size)"

    async def make_room(self, length_bytes: int) -> None:
        """Wait until so many more bytes have room. Raises NoRoom when eviction cannot make any soon."""
        if length_bytes > self.limits.size_bytes:
            raise NoRoom("larger than the cache")
        with self.wanted(length_bytes), trio.move_on_after(ADMIT_S):
            while self.lacks(length_bytes):
                self._wake.set()
                await self._turn.wait()
                if self.stuck and self.lacks(length_bytes):
                    break
            else:
                return
        raise NoRoom(self.obstacle(length_bytes))

    async def relieve(self) -> None:
        """Evict down to the low watermark, if the high one is passed or somebody waits. Raises LocalError."""
        try:
            if self._over(HIGH) > 0:
                # Measured once: the disk shows what was given back only when threads have done it.
                goal = self._room.used_bytes - self._over(LOW)
                while (over := self._room.used_bytes - goal) > 0:
                    if not await self._evict(over):
                        break
                if self._below_floor(HIGH) > 0:
                    await trio.sleep(GIVING_BACK_S)
            self.stuck = self._over(1.0) > 0
        finally:
            turn, self._turn = self._turn, trio.Event()
            turn.set()

    async def evict(self, keys: list[int]) -> list[int]:
        """Evict these entries; returns those that went. Raises LocalError."""
        sizes = {key: self._room.entries.size(key) for key in keys}
        gone, gone_bytes, leaving, freeing = list[int](), 0, list[_Leaving](), list[Callable[[], None]]()
        try:
            with self._meta.transaction() as tx:
                for key in keys:
                    if self._choose(tx, key, leaving, freeing):
                        gone.append(key)
            self._book(gone, leaving)
            gone_bytes = sum(sizes[key] for key in gone)
            self.evicted_bytes += gone_bytes
            self._leaving_bytes += gone_bytes
            if not gone:
                return gone
            failpoint(_RECORDED)
            await self._meta.sync()
            failpoint(_SYNCED)
            for job in freeing:
                job()
            for each in leaving:
                if each.content.sparse is each.sparse:  # else the whole file goes
                    await self._offload.run(punch_hole, each.sparse.open(), each.start, each.end - each.start)
            failpoint(_GIVEN_BACK)
        finally:
            self._leaving_bytes -= gone_bytes
            for each in leaving:
                each.give_back()
                self._release(each.content)
        return gone

    # ------------------------------------------------------------------ inside

    def _lacking(self, length_bytes: int) -> float:
        used = self._room.used_bytes + self._leaving_bytes + self._reserved_bytes
        lacking = used + length_bytes - self.limits.size_bytes
        if self.limits.free_bytes_min:
            lacking = max(lacking, self.limits.free_bytes_min + length_bytes - self._free_bytes())
        return lacking

    def _over(self, watermark: float) -> float:
        """Bytes above a watermark or below the floor of free disk space, what others wait for included."""
        wanted = self._wanted_bytes + self._reserved_bytes
        over = self._room.used_bytes + wanted - self.limits.size_bytes * watermark
        return max(over, self._below_floor(watermark))

    def _below_floor(self, watermark: float) -> float:
        if not self.limits.free_bytes_min:
            return 0.0
        # As between the watermarks: a little more than the floor, so that the next file does not start it again.
        floor = self.limits.free_bytes_min * (2.0 - watermark)
        return floor + self._wanted_bytes - self._free_bytes()

    async def _evict(self, over_bytes: float) -> bool:
        """One batch; False when nothing could go."""
        entries, keys, chosen_bytes = self._room.entries, list[int](), 0
        while chosen_bytes < over_bytes and len(keys) < BATCH_ENTRIES:
            key = entries.victim()
            if key is None or key in keys:
                break
            entries.spare(key)
            keys.append(key)
            chosen_bytes += entries.size(key)
        gone = await self.evict(keys) if keys else []
        # One that proved to be pinned is no candidate any more: go on with the others.
        return bool(gone) or any(entries.hold(key) is Hold.PINNED for key in keys)

    def _choose(self, tx: Transaction, key: int, leaving: list[_Leaving], freeing: list[Callable[[], None]]) -> bool:
        """Put the record without the bytes of an entry into ``tx``; False when they must stay."""
        resident = Resident.of(key)
        inode, content = tx.inode(resident.ino), self._live(resident.ino)
        if inode is None or inode.remote is None:
            return False
        if resident.packed:
            placement = inode.placement
            if content is not None or placement is None or placement.kind != PLACED_IN_PACK:
                return False
            if hold_of(inode) is not Hold.FREE or self._room.keeps(inode, key):
                return False
            tx.put(msgspec.structs.replace(inode, placement=None))
            freeing.append(self._packs.freeing(placement))
            return True
        start = resident.chunk * self._room.chunk_bytes
        end = start + self._room.chunk_bytes
        if hold_of(inode) is not Hold.FREE and (content is None or end > content.clean_end or not inode.linked):
            return False
        if content is not None and (content.stale or content.needed or content.readers.busy(start, end)):
            return False
        if (content is not None and content.gate.blocker(start, end) is not None) or self._room.keeps(inode, key):
            return False
        content = self._acquire(inode)
        leaving.append(_Leaving(content, content.sparse, start, end, content.gate.take(start, end)))
        if (smaller := without(inode, content.sparse.number, start, end)) is not inode:
            tx.put(smaller)
        return True

    def _book(self, gone: list[int], leaving: list[_Leaving]) -> None:
        """The records do without the bytes; now everybody else does."""
        for key in gone:
            self._room.evicted(key)
        self.evicted_count += len(gone)
        for each in leaving:
            each.sparse.drop(each.start, each.end)
