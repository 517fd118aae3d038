"""The cache of file contents: who has which bytes open, what an upload sends, what may be forgotten.

``ContentCache`` hands out one ``Content`` per inode while anybody uses it (open handles, a fetch, an upload), so there
is one decision about residence per inode. It knows nothing of POSIX, of FUSE or of the queue; it knows pinned (dirty
or open) from unpinned.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import trio

from gatewayfs.cache.aheadsettings import DEFAULT_AHEAD, AheadSettings
from gatewayfs.cache.diskreads import DiskReads
from gatewayfs.cache.evicting import Evictor
from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.fetch import Fetcher
from gatewayfs.cache.integrity import COMPARE_ALL, Integrity, IntegritySettings
from gatewayfs.cache.limits import Limits
from gatewayfs.cache.live import Content
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.parts import CacheParts
from gatewayfs.cache.pins import Pins
from gatewayfs.cache.pressure import Pressure
from gatewayfs.cache.reserve import Reserve
from gatewayfs.cache.residence import is_resident
from gatewayfs.cache.room import CHUNK_BYTES, Room
from gatewayfs.cache.snapshot import Snapshot, unchanged
from gatewayfs.cache.sparse import Folder
from gatewayfs.cache.statistics import CacheStatistics, taken
from gatewayfs.cache.taking_stock import take_stock
from gatewayfs.cache.verify import wrong_with
from gatewayfs.cache.wholefiles import Brought
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_PACK, Inode, Placement
from gatewayfs.meta.transaction import Transaction
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.disk import Disk, free_bytes, punch_hole
from gatewayfs.runtime.diskhealth import unwatched
from gatewayfs.runtime.fingerprints import LEAF_BYTES
from gatewayfs.runtime.offload import Offloader
from gatewayfs.s3.store import ObjectStore

log = logging.getLogger(__name__)

SMALL_FILE_BYTES = 64 << 10
"""Default of ``cache.small_file``: above it one ext4 file of its own costs less than copying through a pack."""


class ContentCache:
    """All cached bytes of one share.

    Args:
        directory: the cache directory; ``packs/`` and ``data/`` below it belong to this class.
        background: starts a function in a thread without waiting (frees space); see ``daemon.py``.
        deadline_s: how long a read may wait for the bucket.
        limits: how much of the disk may be used; by default everything.
        chunk_bytes: what of a large file is evicted at a time.
        ahead: what is fetched before anybody asks.
        cell_bytes: the uploads' unit of comparison.
        integrity: how much of what the disk gives back is compared.
        disk: by default one that nobody watches.
    """

    def __init__(
        self,
        directory: Path,
        *,
        meta: MetaStore,
        store: ObjectStore,
        clock: Clock,
        offload: Offloader,
        background: Callable[[Callable[[], None]], None],
        small_file_bytes: int = SMALL_FILE_BYTES,
        deadline_s: float = 30.0,
        limits: Limits | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        ahead: AheadSettings = DEFAULT_AHEAD,
        cell_bytes: int = LEAF_BYTES,
        integrity: IntegritySettings = COMPARE_ALL,
        disk: Disk | None = None,
    ) -> None:
        self._meta, self._offload = meta, offload
        self._live: dict[int, Content] = {}
        disk = disk or Disk(offload, offload, unwatched(clock, offload))
        self.packs = Packs(directory / "packs", disk, lambda *hole: background(partial(punch_hole, *hole)))
        self.folder = Folder(directory / "data", meta, background)
        limits = limits or Limits()
        self.ahead, self.small_file_bytes = ahead.within(limits.size_bytes), small_file_bytes
        free = partial(free_bytes, directory)
        self.room = Room(self.packs, chunk_bytes)
        self.pins = Pins(meta, self.room, self.live, limits.size_bytes)
        self.evictor = Evictor(
            self.room,
            limits,
            meta=meta,
            packs=self.packs,
            offload=offload,
            acquire=self.acquire,
            release=self.release,
            live=self.live,
            free_bytes=free,
            reserve=Reserve(directory / "reserve", limits.reserve_bytes, free),
        )
        self.room.grown, meta.watch = self.evictor.poke, self._watch
        self.pressure = Pressure(self.room, self.evictor, meta, self._live)
        self._fetcher = fetcher = Fetcher(
            meta, store, self.packs, self.room, small_file_bytes, deadline_s, self.evictor.admit, self.ahead,
            disk.health, self.release,
        )  # fmt: skip
        self.fetch = fetcher.fetch
        self.integrity = Integrity(integrity, self, meta, disk, offload, clock, cell_bytes)
        self._parts = CacheParts(
            meta=meta,
            packs=self.packs,
            disk=disk,
            clock=clock,
            small_file_bytes=small_file_bytes,
            cell_bytes=cell_bytes,
            folder=self.folder,
            room=self.room,
            reads=DiskReads(self.integrity.reads, meta, self.packs, disk.health, fetcher.from_bucket, deadline_s),
            fences=self.integrity.damage.fences,
            fetch=fetcher.fetch,
            bypass=fetcher.bypass,
            follow=fetcher.follow,
            freeing=self.freeing,
        )

    def __repr__(self) -> str:
        return f"<ContentCache {len(self._live)} live, {self.packs!r}>"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Eviction, and what is fetched ahead or goes on after its reader has what it needs, live here, for ever."""
        async with trio.open_nursery() as nursery:
            self._fetcher.downloads.nursery = nursery
            nursery.start_soon(self.integrity.run)
            try:
                task_status.started()
                await self.evictor.run()
            finally:
                self._fetcher.downloads.nursery = None

    def acquire(self, inode: Inode) -> Content:
        """The live content of an inode, with one more user. Give it back with ``release``."""
        content = self._live.get(inode.ino)
        if content is None:
            content = self._live[inode.ino] = Content(self._parts, inode)
            content.hold = self.room.standing(inode)
            content.booked = (content.hold, 0)
        content.users += 1
        return content

    def release(self, content: Content) -> None:
        """One user less; the last one leaves what was fetched in the record."""
        content.users -= 1
        self.integrity.sealing.closed(content)
        if content.users:
            self._fetcher.abandon(content)
            return
        self._fetcher.forget(content)
        content.persist_residence()
        if not content.changed:
            # A cache file nothing came into (its fetch failed), or whose bytes others replaced, has no record.
            content.sparse.abandon(self._meta.inode(content.ino))
        if self._live.get(content.ino) is content:
            del self._live[content.ino]
            if content.hold is Hold.DIRTY and content.clean_end:
                content.clean_end = 0  # which bytes of a changed file are clean is known only while it is in use
                self.room.follow(content, 0, content.size)

    @contextmanager
    def using(self, inode: Inode) -> Iterator[Content]:
        """``acquire`` and ``release`` around a block."""
        content = self.acquire(inode)
        try:
            yield content
        finally:
            self.release(content)

    async def bring(self, inode: Inode, given: Brought | None = None) -> None:
        """Make a small file resident before anybody asks. Raises as ``Fetcher.fetch``."""
        with self.using(inode) as content:
            await self._fetcher.bring(content, given)

    def live(self, ino: int) -> Content | None:
        """The live content, if anybody uses it now."""
        return self._live.get(ino)

    def open_count(self, ino: int) -> int:
        """Open handles of an inode."""
        return content.opens if (content := self._live.get(ino)) else 0

    def writer_count(self, ino: int) -> int:
        """Those that may write."""
        return content.writers if (content := self._live.get(ino)) else 0

    def is_resident(self, inode: Inode) -> bool:
        """Every byte is on this machine."""
        return is_resident(inode, self._live.get(inode.ino))

    async def ensure_resident(self, ino: int, start: int = 0, end: int | None = None) -> None:
        """Fetch every absent byte of a file, or of ``[start, end)`` of it.

        Raises:
            StoreError: the bucket refused; PreconditionFailed or ObjectNotFound when the object is not ours any more.
            CacheDiskFull, CacheDiskFailed: no place for the bytes.
        """
        with self.using(self._meta.require(ino)) as content:
            await self._fetcher.fetch_all(content, start, end)

    async def fill_absent(self, ino: int) -> None:
        """Absent bytes become zeros: their object is gone, what was written must stay reachable. Raises LocalError."""
        with self.using(self._meta.require(ino)) as content:
            await content.persist()
            if not content.resident:
                content.declare_complete()

    async def snapshot(self, ino: int, cell_bytes: int, before: Snapshot | None = None) -> Snapshot:
        """The bytes of a file as they are now, with a fingerprint per ``cell_bytes``; see ``Integrity.snapshot``."""
        with self.using(self._meta.require(ino)) as content:
            return await self.integrity.snapshot(content, cell_bytes, before)

    def still(self, ino: int, snapshot: Snapshot) -> bool:
        """True while no byte of the snapshot changed: appending beyond its end does no harm."""
        return unchanged(self._meta.inode(ino), self._live.get(ino), snapshot)

    def forget(self, tx: Transaction, inode: Inode) -> Inode:
        """The record without its placement, for the caller to put (or to remove); the space comes back when durable."""
        if inode.placement is not None:
            tx.after_durable(self.freeing(inode.ino, inode.placement))
        return msgspec.structs.replace(inode, placement=None)

    def rebase(self, tx: Transaction, inode: Inode) -> Inode:
        """The object changed under a clean inode: forget the old bytes, in the transaction that records the new object.

        Who has it open goes on with the new object, as if it had been written in place.
        """
        content = self._live.pop(inode.ino, None)
        if content is not None:
            content.stale = True
            self._fetcher.abandon(content)
        return self.forget(tx, inode)

    def drop(self, ino: int) -> None:
        """Forget the clean bytes of a file nobody uses; the next read fetches them. Dirty or live files stay."""
        inode = self._meta.inode(ino)
        if inode is not None and inode.remote is not None and not inode.dirty_since_ns and ino not in self._live:
            with self._meta.transaction() as tx:
                tx.put(self.forget(tx, inode))

    def verify(self, inode: Inode) -> str:
        """What is wrong with the bytes a record names, in one line; "" when they are there."""
        return wrong_with(inode, self.packs, self.folder)

    async def take_stock(self, inodes: Callable[[int, int], list[Inode]]) -> None:
        """Walk all records once, in slices, so that the books know what was here before the start."""
        await take_stock(self, self._meta, self._offload, inodes)

    async def tidy_up(self, inodes: Callable[[int, int], list[Inode]]) -> None:
        """After a start, in the background: take stock, remove files a crash left without a record."""
        await self.take_stock(inodes)
        if removed := await self.folder.sweep(self._offload, self.live):
            log.info("removed %d cache files that no record names", removed)

    def statistics(self) -> CacheStatistics:
        """Counters for ``status``."""
        live = self._live.values()
        return taken(live, self.evictor, self.room, self.packs, self._fetcher, self.pressure, self.integrity)

    def close(self) -> None:
        """Let go of all descriptors."""
        self._live.clear()
        self.packs.close()

    def rebook(self, ino: int) -> None:
        """How a file's bytes count may have changed (pinned, excluded) without its record: look again."""
        if (inode := self._meta.inode(ino)) is not None and self.room.holds(ino):
            self.room.observe(ino, inode, self._live.get(ino))

    def _watch(self, tx: Transaction) -> None:
        self.pins.watch(tx)
        self.integrity.damage.fences.observe(tx)
        for ino, inode in tx.inodes.items():
            content = self._live.get(ino)
            placed = inode is not None and inode.placement is not None
            if placed or content is not None or self.room.holds(ino):
                self.room.observe(ino, inode, content)

    def freeing(self, ino: int, placement: Placement) -> Callable[[], None]:
        """As in ``CacheParts``."""
        if placement.kind == PLACED_IN_PACK:
            return self.packs.freeing(placement)
        return lambda: self.folder.remove(ino, placement.pack)
