"""What every step of an upload needs, in one place, and the three things shared between workers: keys, memory, news.

Order of operations on one object key is kept by ``KeyLocks``: a worker takes all keys of its step at once, without
waiting, or steps back and is called when the key in its way is free. So there is no order of locks to get wrong.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from gatewayfs.cache.content import ContentCache
from gatewayfs.errors import (
    BodyChanged,
    BucketNotFound,
    CredentialsRejected,
    LocalError,
    ObjectNotFound,
    StoreError,
    StoreUnreachable,
)
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.clock import Clock
from gatewayfs.s3.gate import Gate
from gatewayfs.s3.store import Capabilities, ListPage, ObjectInfo, ObjectStore
from gatewayfs.types import ObjectKey
from gatewayfs.upload.deletions import Deletions
from gatewayfs.upload.destinations import Destinations
from gatewayfs.upload.entries import Target
from gatewayfs.upload.renames import Renames
from gatewayfs.upload.settings import UploadHooks, UploadSettings
from gatewayfs.upload.status import Counters
from gatewayfs.upload.staying import Staying

log = logging.getLogger(__name__)

T = TypeVar("T")


class KeyBusy(Exception):
    """Another worker uses the key now (internal: step back and wait for it)."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class StillChanging(Exception):
    """The file changes faster than it can be sent (internal: let it settle)."""


class KeyLocks:
    """Object keys that workers use now. ``freed`` is called with each key that becomes free."""

    def __init__(self, freed: Callable[[str], None]) -> None:
        self._held: set[str] = set()
        self._freed = freed

    def __contains__(self, key: str) -> bool:
        return key in self._held

    @contextmanager
    def hold(self, keys: Iterable[str]) -> Iterator[None]:
        """All of ``keys`` for the length of the block. Raises KeyBusy, having taken none."""
        wanted = set(keys)
        for key in wanted:
            if key in self._held:
                raise KeyBusy(key)
        self._held |= wanted
        try:
            yield
        finally:
            self._held -= wanted
            for key in wanted:
                self._freed(key)


SMALL_BODIES_SHARE = 1 / 8
"""Of the budget, for small bodies alone: on a slow link the parts of a large file hold the rest for minutes."""

SMALL_BODY_SHARE = SMALL_BODIES_SHARE / 8
"""Of the budget, is a small body at most: 1 MiB of 64 MiB."""


class ByteBudget:
    """Bounds the bytes of bodies under way; small ones and large ones wait only for their own kind, in order."""

    def __init__(self, limit_bytes: int) -> None:
        reserved_bytes = int(limit_bytes * SMALL_BODIES_SHARE)
        self._small_bytes_max = int(limit_bytes * SMALL_BODY_SHARE)
        self._small, self._large = _Pool(reserved_bytes), _Pool(limit_bytes - reserved_bytes)

    @property
    def used_bytes(self) -> int:
        """Bytes under way now."""
        return self._small.used_bytes + self._large.used_bytes

    @asynccontextmanager
    async def hold(self, length_bytes: int) -> AsyncIterator[None]:
        """``length_bytes`` for the length of the block; a body over the limit goes alone."""
        pool = self._small if length_bytes <= self._small_bytes_max else self._large
        share = min(length_bytes, pool.limit_bytes)
        await pool.acquire(share)
        try:
            yield
        finally:
            pool.release(share)


class _Pool:
    """First come, first served."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._waiting: deque[tuple[int, trio.Event]] = deque()
        self.used_bytes = 0

    async def acquire(self, share: int) -> None:
        if not self._waiting and self.used_bytes + share <= self.limit_bytes:
            self.used_bytes += share
            return
        granted = trio.Event()
        self._waiting.append((share, granted))
        try:
            await granted.wait()
        except trio.Cancelled:
            if granted.is_set():
                self.used_bytes -= share
            else:
                self._waiting.remove((share, granted))
            self._grant()
            raise

    def release(self, share: int) -> None:
        self.used_bytes -= share
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self.used_bytes + self._waiting[0][0] <= self.limit_bytes:
            share, granted = self._waiting.popleft()
            self.used_bytes += share
            granted.set()


@dataclass(slots=True, eq=False)
class Context:
    """Shared by all steps of one uploader.

    Attributes:
        capabilities: what the store honours.
        staying: which entries are not to go on now.
        notice: something about this target changed through a step: see that it is in the queue.
        moved: an inode's object changed: whoever waits for it must look again.
        unblock: an entry that waits for another one must look again now.
        doing: tells ``status`` what a target's worker is about.
        lost: what was written to this inode goes on under another name, or not at all, because of what others wrote;
            the text says which.
    """

    meta: MetaStore
    store: ObjectStore
    cache: ContentCache
    clock: Clock
    settings: UploadSettings
    hooks: UploadHooks
    capabilities: Capabilities
    keys: KeyLocks
    deletions: Deletions
    budget: ByteBudget
    gate: Gate
    counters: Counters
    staying: Staying
    notice: Callable[[Target], None]
    moved: Callable[[Target], None]
    unblock: Callable[[Target], None]
    doing: Callable[[Target, str], None]
    lost: Callable[[int, str], None]
    renames: Renames = field(default_factory=Renames)
    destinations: Destinations = field(init=False)

    def __post_init__(self) -> None:
        self.destinations = Destinations(self._list_from, self.clock.monotonic)

    async def call(self, request: Awaitable[T]) -> T:
        """Await one store request; any answer, also a refusal, proves that the store can be reached."""
        try:
            result = await request
        except (StoreUnreachable, CredentialsRejected, BucketNotFound, BodyChanged):
            raise
        except StoreError:
            self.gate.answered(self.clock.monotonic())
            raise
        self.gate.answered(self.clock.monotonic())
        return result

    async def _list_from(self, prefix: str, after: str) -> ListPage:
        return await self.call(self.store.list_page(prefix, delimiter=True, start_after=after))

    async def secure(self) -> None:
        """Records and bytes survive power loss, before a write makes them visible in the bucket.

        Otherwise the records could come back older than the bucket, and take our own object for somebody else's, or
        not know of it at all.
        """
        try:
            await self.meta.sync()
        except LocalError as problem:
            # A failing cache disk is the best of reasons to send what it still gives.
            log.warning("uploading what may not survive power loss here: %s", problem)

    async def look(self, key: str, *, sure: bool = True) -> ObjectInfo | None:
        """HEAD; None when there is no object. Raises other StoreErrors.

        Args:
            sure: a HEAD has no body to say whether the object is missing or the whole bucket. Before anything is
                concluded from an object's absence, a LIST must have found the bucket.
        """
        try:
            return await self.call(self.store.head(ObjectKey(key)))
        except ObjectNotFound:
            if sure:
                await self.call(self.store.list_page(key, delimiter=False, max_keys=1))
            return None
