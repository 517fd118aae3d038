"""Bytes that are only in the bucket, brought here on demand.

Ranged GETs with If-Match: what arrives is of the object the record describes or nothing arrives. One absent range is
fetched once however many readers want it (the range gate makes the others wait, and then there is nothing missing).
Requests are at least ``FETCH_BYTES`` where the object has them, so a program reading 4 KiB at a time does not make a
request each time.

Handlers that wait for the bucket are counted: the FUSE side serves a limited number of requests at once, and with a
slow bucket readers of cold data must not take all of them (docs/architecture.md, "deadlines").
"""

import trio

from gatewayfs.cache.live import Content
from gatewayfs.cache.packs import Packs
from gatewayfs.errors import (
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoreError,
    Unavailable,
)
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode, Remote
from gatewayfs.s3.store import ObjectStore
from gatewayfs.types import ETag, ObjectKey

FETCH_BYTES = 1 << 20
"""Smallest aligned unit of a fetch: at 20 ms and 1 Gbit/s its 8 ms on the wire are below one round trip, so fetching
less would hardly be faster."""

FETCH_BYTES_MAX = 8 << 20
"""Largest single GET of a demanded range."""

WAITERS_MAX = 64
"""Calls that may wait for the bucket at once; pyfuse3 serves 99 requests, the rest stay free for what is local."""


class BucketMovedOn(Exception):
    """The object is not the one the record describes any more (internal: the record must be looked up again)."""


class Fetcher:
    """Brings absent ranges of live files to the cache disk.

    Args:
        deadline_s: longest time one call may wait before it answers EIO.
    """

    def __init__(
        self, meta: MetaStore, store: ObjectStore, packs: Packs, small_file_bytes: int, deadline_s: float
    ) -> None:
        self._meta = meta
        self._store = store
        self._packs = packs
        self._small_file_bytes = small_file_bytes
        self._deadline_s = deadline_s
        self._waiters = trio.CapacityLimiter(WAITERS_MAX)
        self.fetched_bytes = 0
        self.fetches = 0

    async def fetch(self, content: Content, start: int, end: int) -> None:
        """Make ``[start, end)`` of a live file resident.

        Raises:
            BucketMovedOn: the object was replaced or deleted by others.
            Unavailable: no answer before the deadline, or a refusal; the message says which.
            CacheDiskFull, CacheDiskFailed: the bytes have no place.
        """
        try:
            with trio.fail_after(self._deadline_s):
                async with self._waiters:
                    await self._fetch(content, start, end)
        except trio.TooSlowError:
            raise Unavailable(f"no bytes from the bucket within {self._deadline_s:g} s") from None
        except (PreconditionFailed, ObjectNotFound, RangeNotSatisfiable) as problem:
            raise BucketMovedOn(str(problem)) from problem
        except ObjectArchived as problem:
            raise Unavailable(f"{problem}; restore it from its archive tier first") from problem
        except StoreError as problem:
            raise Unavailable(str(problem)) from problem

    async def fetch_all(self, content: Content, start: int = 0, end: int | None = None) -> None:
        """Make ``[start, end)``, by default everything, resident, without a deadline; raises the StoreError itself."""
        while content.buffer is None and not content.in_pack:
            gaps = content.extents.missing(start, content.size if end is None else min(end, content.size))
            if not gaps:
                return
            first = gaps[0][0]
            await self._fetch(content, first, min(gaps[0][1], first + FETCH_BYTES_MAX))

    async def _fetch(self, content: Content, start: int, end: int) -> None:
        inode = self._meta.require(content.ino)
        remote = inode.remote
        if remote is None:
            raise BucketMovedOn("the bucket holds no object for this file")
        if content.size == remote.size <= self._small_file_bytes and not content.extents:
            await self._fetch_small(content, inode, remote)
            return
        # Whole units around the demand, but never bytes past what is absent: those are newer here.
        wide_start = start // FETCH_BYTES * FETCH_BYTES
        wide_end = min(-(-end // FETCH_BYTES) * FETCH_BYTES, content.size)
        for gap_start, gap_end in content.extents.missing(wide_start, wide_end):
            for piece in range(gap_start, gap_end, FETCH_BYTES_MAX):
                await self._fetch_range(content, remote, piece, min(piece + FETCH_BYTES_MAX, gap_end))

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
                content.extents.add(gap_start, gap_end)
                content.residence_changed = True
                self._count(gap_end - gap_start)

    def _count(self, length_bytes: int) -> None:
        self.fetches += 1
        self.fetched_bytes += length_bytes
