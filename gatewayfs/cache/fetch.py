"""Bytes that are only in the bucket, brought here on demand.

Ranged GETs with If-Match: what arrives is of the object the record describes or nothing arrives. One absent range is
fetched once however many readers want it (the range gate makes the others wait, and then there is nothing missing).
Requests are at least ``FETCH_BYTES`` where the object has them, so a program reading 4 KiB at a time does not make a
request each time.

Handlers that wait for the bucket are counted: the FUSE side serves a limited number of requests at once, and with a
slow bucket readers of cold data must not take all of them (docs/architecture.md, "deadlines").
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import trio

from gatewayfs.cache.live import Content, NoRoom
from gatewayfs.cache.packs import Packs
from gatewayfs.cache.room import Room
from gatewayfs.errors import (
    CacheDiskFull,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoreError,
    Unavailable,
)
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode, Remote
from gatewayfs.s3.store import INLINE_BODY_BYTES_MAX, ObjectStore
from gatewayfs.types import ETag, ObjectKey

FETCH_BYTES = 1 << 20
"""Smallest aligned unit of a fetch: at 20 ms and 1 Gbit/s its 8 ms on the wire are below one round trip, so fetching
less would hardly be faster."""

FETCH_BYTES_MAX = 8 << 20
"""Largest single GET of a demanded range."""

WAITERS_MAX = 64
"""Calls that may wait for the bucket at once; pyfuse3 serves 99 requests, the rest stay free for what is local."""


Admit = Callable[[int], AbstractAsyncContextManager[None]]


class BucketMovedOn(Exception):
    """The object is not the one the record describes any more (internal: the record must be looked up again)."""


class Fetcher:
    """Brings absent ranges of live files to the cache disk.

    Args:
        deadline_s: longest time one call may wait before it answers EIO.
        admit: around a fetch: waits until so many bytes have room in the cache; raises NoRoom.
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
    ) -> None:
        self._meta = meta
        self._store = store
        self._packs = packs
        self._room = room
        self._small_file_bytes = small_file_bytes
        self._deadline_s = deadline_s
        self._admit = admit
        self._waiters = trio.CapacityLimiter(WAITERS_MAX)
        self.fetched_bytes = 0
        self.fetches = 0
        self.bypassed_bytes = 0

    async def fetch(self, content: Content, start: int, end: int) -> None:
        """Make ``[start, end)`` of a live file resident.

        Raises:
            BucketMovedOn: the object was replaced or deleted by others.
            Unavailable: no answer before the deadline, or a refusal; the message says which.
            NoRoom: the cache cannot keep them (see ``bypass``). CacheDiskFailed: the disk does not take them.
        """
        with self._worded():
            try:
                async with self._waiters:
                    await self._fetch(content, start, end, self._admit)
            except CacheDiskFull as problem:
                raise NoRoom(str(problem)) from problem

    async def bypass(self, content: Content, start: int, end: int) -> bytes:
        """Bytes of a live file, the absent ones straight from the bucket; nothing is kept. Raises as ``fetch``."""
        data = bytearray(end - start)
        gaps = content.extents.missing(start, end)
        with self._worded():
            async with self._waiters:
                for piece, piece_end in _pieces(gaps):
                    remote = self._remote(content)
                    _, found = await self._store.get(
                        ObjectKey(remote.key),
                        piece,
                        piece_end - piece,
                        if_match=ETag(remote.etag) if remote.etag else None,
                    )
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

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """The deadline of a call, and the store's refusals in a reader's words."""
        try:
            with trio.fail_after(self._deadline_s):
                yield
        except trio.TooSlowError:
            raise Unavailable(f"no bytes from the bucket within {self._deadline_s:g} s") from None
        except (PreconditionFailed, ObjectNotFound, RangeNotSatisfiable) as problem:
            raise BucketMovedOn(str(problem)) from problem
        except ObjectArchived as problem:
            raise Unavailable(f"{problem}; restore it from its archive tier first") from problem
        except StoreError as problem:
            raise Unavailable(str(problem)) from problem

    async def fetch_all(self, content: Content, start: int = 0, end: int | None = None) -> None:
        """Make ``[start, end)``, by default everything, resident. No deadline, no limit; raises the StoreError."""
        content.needed += 1
        try:
            while content.buffer is None and not content.in_pack:
                gaps = content.extents.missing(start, content.size if end is None else min(end, content.size))
                if not gaps:
                    return
                first = gaps[0][0]
                await self._fetch(content, first, min(gaps[0][1], first + FETCH_BYTES_MAX), _no_limit)
        finally:
            content.needed -= 1

    def _remote(self, content: Content) -> Remote:
        remote = self._meta.require(content.ino).remote
        if remote is None:
            raise BucketMovedOn("the bucket holds no object for this file")
        return remote

    async def _fetch(self, content: Content, start: int, end: int, admit: Admit) -> None:
        inode, remote = self._meta.require(content.ino), self._remote(content)
        if content.size == remote.size <= self._small_file_bytes and not content.extents:
            async with admit(remote.size):
                await self._fetch_small(content, inode, remote)
            return
        # Whole units around the demand, but never bytes past what is absent: those are newer here.
        wide_start = start // FETCH_BYTES * FETCH_BYTES
        wide_end = min(-(-end // FETCH_BYTES) * FETCH_BYTES, content.size)
        for gap_start, gap_end in content.extents.missing(wide_start, wide_end):
            for piece in range(gap_start, gap_end, FETCH_BYTES_MAX):
                piece_end = min(piece + FETCH_BYTES_MAX, gap_end)
                async with admit(piece_end - piece):
                    await self._fetch_range(content, remote, piece, piece_end)

    async def _fetch_small(self, content: Content, inode: Inode, remote: Remote) -> None:
        async with content.gate.hold(0, max(1, content.size)):
            if content.in_pack or content.buffer is not None or content.extents:
                return
            _, data = await self._store.get(
                ObjectKey(remote.key), 0, remote.size, if_match=ETag(remote.etag) if remote.etag else None
            )
            if len(data) != remote.size:
                raise BucketMovedOn(f"the object has {len(data)} bytes, not {remote.size}")
            self._count(len(data))
            if content.size != len(data) or content.extents or content.buffer is not None:
                return  # written or truncated meanwhile: look again
            if not content.being_changed:
                content.placement = self._packs.append(content.ino, inode.content_revision, data)
                content.residence_changed = True
                return
        # Somebody is about to write, and has decided already that the bytes go to a sparse file: they must not be
        # in two places. (Waiting for them inside the gate would be for ever: they wait for the gate.)
        await content.unchanging()

    async def _fetch_range(self, content: Content, remote: Remote, start: int, end: int) -> None:
        async with content.gate.hold(start, end):
            for gap_start, gap_end in content.extents.missing(start, min(end, content.size)):
                sparse = content.sparse
                sparse.open()
                await self._store.fetch(
                    ObjectKey(remote.key),
                    gap_start,
                    gap_end - gap_start,
                    str(sparse.path),
                    gap_start,
                    if_match=ETag(remote.etag) if remote.etag else None,
                )
                if content.sparse is not sparse:
                    return  # truncated to nothing and started over meanwhile
                sparse.fill(gap_start, gap_end)
                self._room.follow(content, gap_start, gap_end)
                content.residence_changed = True
                self._count(gap_end - gap_start)

    def _count(self, length_bytes: int) -> None:
        self.fetches += 1
        self.fetched_bytes += length_bytes


def _pieces(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges cut into what one answer may hold in memory."""
    for start, end in ranges:
        for piece in range(start, end, INLINE_BODY_BYTES_MAX):
            yield piece, min(piece + INLINE_BODY_BYTES_MAX, end)


@asynccontextmanager
async def _no_limit(_length_bytes: int) -> AsyncIterator[None]:
    """For what must come whatever the books say: an upload cannot go on without it."""
    yield
