"""Bytes that are only in the bucket, brought here on demand and ahead of demand.

Ranged GETs with If-Match: what arrives is of the object the record describes or nothing arrives. ``readahead`` decides
what to ask for, ``downloads`` has what is under way. Small files come whole, into a pack (``wholefiles``).

Handlers that wait for the bucket are counted: the FUSE side serves a limited number of requests at once, and with a
slow bucket readers of cold data must not take all of them (docs/architecture.md, "deadlines").
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import trio

from gatewayfs.cache.aheadsettings import AheadSettings
from gatewayfs.cache.downloads import Downloads
from gatewayfs.cache.intake import Admit
from gatewayfs.cache.live import Content, NoRoom
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.readahead import FETCH_BYTES, REQUEST_BYTES_MAX
from gatewayfs.cache.room import Room
from gatewayfs.cache.wholefiles import Brought, BucketMovedOn, WholeFiles
from gatewayfs.cache.wording import kept, worded
from gatewayfs.errors import GatewayError, PreconditionFailed
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Remote
from gatewayfs.runtime.diskhealth import DiskHealth
from gatewayfs.s3.store import INLINE_BODY_BYTES_MAX, ObjectStore
from gatewayfs.types import ETag, ObjectKey

WAITERS_MAX = 64
"""Calls that may wait for the bucket at once; pyfuse3 serves 99 requests, the rest stay free for what is local."""

REQUESTS_OF_A_WHOLE = 4
"""Under way at a time for a large file that is fetched whole: 1 Gbit/s over 20 ms takes two of 8 MiB, and their ends
seldom coincide."""

LIMITED_WINDOW_S = 2.0
"""Under a bandwidth limit a window is at most what the limit lets through in this time."""


class Fetcher:
    """Brings absent ranges of live files to the cache disk.

    Args:
        small_file_bytes: files up to this size come whole, into a pack.
        deadline_s: longest time one call may wait before it answers EIO.
        admit: around a fetch: waits until so many bytes have room in the cache; raises NoRoom.
        health: while the disk is not well nothing is brought to it, except what an upload needs.
        release: ``ContentCache``'s, for what is under way in the background.
    """

    def __init__(
        self,
        meta: MetaStore,
        store: ObjectStore,
        packs: Packs,
        room: Room,
        small_file_bytes: int,
        deadline_s: float,
        admit: Admit,
        ahead: AheadSettings,
        health: DiskHealth,
        release: Callable[[Content], None],
    ) -> None:
        self._meta, self._store, self._deadline_s = meta, store, deadline_s
        self._whole = WholeFiles(meta, store, packs, small_file_bytes, self._count)
        self._admit, self._ahead, self._health = admit, ahead, health
        self.bypassed_bytes = 0
        self._waiters = trio.CapacityLimiter(WAITERS_MAX)
        self.downloads = Downloads(
            store,
            room,
            release=release,
            ahead_max=ahead.requests_max,
            ahead_bytes_max=ahead.bytes_max // 2,
            limited=lambda: ahead.limit() is not None,
        )
        self.used_bytes = 0
        """Of those fetched ahead, how many were read."""
        self.wasted_bytes = 0
        """Of those fetched ahead, how many had not been read when their file was closed."""

    async def fetch(self, content: Content, start: int, end: int) -> None:
        """Make ``[start, end)`` of a live file resident.

        Raises:
            BucketMovedOn: the object was replaced or deleted by others.
            Unavailable: no answer before the deadline, or a refusal; the message says which.
            NoRoom: the cache or its disk cannot keep them (see ``bypass``).
        """
        with worded(self._deadline_s), kept(self._health):
            async with self._waiters:
                if end - start > REQUEST_BYTES_MAX:
                    await self.fetch_all(content, start, end, self._admit)
                else:
                    await self._fetch(content, start, end)

    async def bring(self, content: Content, given: Brought | None) -> None:
        """Make a small live file resident before anybody asks, in no waiter's place. Raises as ``fetch``."""
        content.unasked = not content.opens
        with worded(self._deadline_s), kept(self._health):
            remote = self._remote(content)
            if self._whole.fits(content, remote):
                async with self._admit(remote.size):
                    await self._whole.fetch(content, remote, given)

    async def bypass(self, content: Content, start: int, end: int) -> bytes:
        """Bytes of a live file, the absent ones straight from the bucket; nothing is kept. Raises as ``fetch``."""
        return await self._past_cache(content, start, end, content.extents.missing(start, end))

    async def from_bucket(self, content: Content, start: int, end: int) -> bytes:
        """Bytes of a live file, all of them from the bucket; nothing is kept. Raises as ``fetch``."""
        return await self._past_cache(content, start, end, [(start, end)])

    async def _past_cache(self, content: Content, start: int, end: int, gaps: list[tuple[int, int]]) -> bytes:
        data = bytearray(end - start)
        with worded(self._deadline_s):
            async with self._waiters:
                for piece, piece_end in _cut(gaps, INLINE_BODY_BYTES_MAX):
                    remote = self._remote(content)
                    etag = ETag(remote.etag) if remote.etag else None
                    _, found = await self._store.get(ObjectKey(remote.key), piece, piece_end - piece, if_match=etag)
                    if len(found) != piece_end - piece:
                        raise BucketMovedOn(f"the object ends before {piece_end}")
                    data[piece - start : piece_end - start] = found
                    self._count(len(found))
        self.bypassed_bytes += sum(gap_end - gap_start for gap_start, gap_end in gaps)
        position = start
        for gap_start, gap_end in [*gaps, (end, end)]:
            if position < gap_start:
                here = await content.read(position, gap_start - position)
                data[position - start : position - start + len(here)] = here
            position = gap_end
        return bytes(data)

    def follow(self, content: Content, start: int, end: int) -> None:
        """``[start, end)`` is read, and resident: fetch what comes next, if the reader reads in order."""
        if content.intake.unread:
            self.used_bytes += content.intake.unread.take(start, end)
        if not content.resident:
            self._plan(content, start, end, absent=False)

    async def fetch_all(
        self, content: Content, start: int = 0, end: int | None = None, admit: Admit | None = None
    ) -> None:
        """Make ``[start, end)``, by default everything, resident; a few requests are under way at a time.

        Without ``admit`` the books do not matter: for what must come. No deadline; raises the StoreError.
        """
        content.needed += 1
        admit = admit or _no_limit
        try:
            while content.buffer is None and not content.in_pack:
                gaps = content.extents.missing(start, content.size if end is None else min(end, content.size))
                if not gaps:
                    return
                remote = self._remote(content)
                if self._whole.fits(content, remote):
                    async with admit(remote.size):
                        await self._whole.fetch(content, remote)
                else:
                    await self._pieces(content, gaps, admit)
        finally:
            content.needed -= 1

    def abandon(self, content: Content) -> None:
        """If its last reader closed it, or its object was replaced: end what is under way and nobody waits for."""
        if content.stale or not content.opens:
            self.downloads.give_up(content, 0, content.size)

    def forget(self, content: Content) -> None:
        """Nobody uses it any more."""
        self.wasted_bytes += content.intake.unread.total_bytes

    # ------------------------------------------------------------------ inside

    async def _fetch(self, content: Content, start: int, end: int) -> None:
        remote = self._remote(content)
        if self._whole.fits(content, remote):
            async with self._admit(remote.size):
                await self._whole.fetch(content, remote)
            return
        unit = self._plan(content, start, end, absent=True)
        await self._range(content, start, end, unit, self._admit)

    async def _pieces(self, content: Content, gaps: list[tuple[int, int]], admit: Admit) -> None:
        """Make ``gaps`` resident, ``REQUESTS_OF_A_WHOLE`` pieces at a time; the first failure ends it."""
        pieces = _cut(gaps, REQUEST_BYTES_MAX)
        problems: list[GatewayError | BucketMovedOn | NoRoom] = []

        async def work(nursery: trio.Nursery) -> None:
            try:
                for piece in pieces:
                    await self._range(content, *piece, piece, admit)
            except (GatewayError, BucketMovedOn, NoRoom) as problem:
                problems.append(problem)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            # Before the cache runs a download is its caller's, and nobody else's: one at a time.
            for _ in range(REQUESTS_OF_A_WHOLE if self.downloads.nursery is not None else 1):
                nursery.start_soon(work, nursery)
        if problems:
            raise problems[0]

    async def _range(self, content: Content, start: int, end: int, unit: tuple[int, int], admit: Admit) -> None:
        """Make ``[start, end)`` of a large file resident by requests for ``unit``, or those under way."""
        while content.buffer is None and not content.in_pack:
            gaps = content.extents.missing(start, min(end, content.size))
            if not gaps:
                return
            await self._some(content, gaps[0][0], unit, admit)

    def _remote(self, content: Content) -> Remote:
        """The object to fetch from. Raises BucketMovedOn when there is none, or it is not the one of these bytes."""
        if content.stale:
            raise BucketMovedOn("the object was replaced")
        remote = self._meta.require(content.ino).remote
        if remote is None:
            raise BucketMovedOn("the bucket holds no object for this file")
        return remote

    def _plan(self, content: Content, start: int, end: int, *, absent: bool) -> tuple[int, int]:
        """Send for what the reader will need; returns what to demand if what it needs now is not under way."""
        plan = content.intake.streams.follow(
            start, min(end, content.size), content.size, self._window_max(), absent=absent
        )
        for given_up_start, given_up_end in plan.given_up:
            self.downloads.give_up(content, given_up_start, given_up_end)
        for ahead_start, ahead_end in plan.ahead:
            self._send_ahead(content, ahead_start, ahead_end)
        return plan.demand

    def _window_max(self) -> int:
        limit = self._ahead.limit()
        window = self._ahead.bytes_max
        if limit is not None:
            window = min(window, int(limit * LIMITED_WINDOW_S))
        return window if window >= FETCH_BYTES else 0

    def _send_ahead(self, content: Content, start: int, end: int) -> None:
        remote = self._meta.require(content.ino).remote
        if remote is None or content.stale or content.changed or not self._health.fit:
            return
        for gap_start, gap_end in content.extents.missing(start, min(end, content.size)):
            for free_start, free_end in content.intake.not_under_way(gap_start, gap_end):
                self.downloads.ahead(content, free_start, free_end, remote, self._admit)

    async def _some(self, content: Content, offset: int, unit: tuple[int, int], admit: Admit) -> None:
        """Return when more of what is absent from ``offset`` on may be here; begins a request unless one is under way.

        Args:
            unit: the request to make, as far as its bytes are absent and not under way.
        """
        remote = self._remote(content)
        download = self.downloads.covering(content, offset)
        if download is None:
            low, high = min(unit[0], offset), min(max(unit[1], offset + 1), content.size)
            gaps = content.extents.missing(low, high)
            free = [piece for gap in gaps for piece in content.intake.not_under_way(*gap)]
            start, end = next(piece for piece in free if piece[0] <= offset < piece[1])
            download = await self.downloads.demand(content, start, end, remote, admit)
        else:
            self.downloads.promote(download)
        if not download.finished:
            await download.wait()
        if download.error is None or not content.extents.missing(offset, offset + 1):
            return
        if isinstance(download.error, NoRoom) and download.admit is not admit:
            return  # what must come whatever the books say joined what need not
        current = self._meta.inode(content.ino)
        if isinstance(download.error, PreconditionFailed) and current is not None:
            now = current.remote
            if now is not None and now.etag != download.remote.etag and not content.stale:
                return  # our own upload replaced it meanwhile: what is absent here is the same in the new one
        raise download.error

    def _count(self, length_bytes: int) -> None:
        self.downloads.fetches += 1
        self.downloads.fetched_bytes += length_bytes


def _cut(ranges: list[tuple[int, int]], length_max: int) -> Iterator[tuple[int, int]]:
    """Ranges in pieces of at most ``length_max``."""
    for start, end in ranges:
        for piece in range(start, end, length_max):
            yield piece, min(piece + length_max, end)


@asynccontextmanager
async def _no_limit(_length_bytes: int) -> AsyncIterator[None]:
    """For what must come whatever the books say: an upload cannot go on without it."""
    yield
