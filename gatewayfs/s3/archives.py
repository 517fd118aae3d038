"""Objects in archive tiers: who was refused which, and asking S3 to restore them.

S3 answers a read of such an object at once, with 403; what is left to do is to tell people (``status``), and, where the
share wants that, to ask for it back: once, because every request costs, and a restore takes minutes to days.

    a program's read is refused ── note ──> objects ──> run: HEAD; RestoreObject unless one is under way already
    a read of the key succeeds, or the object is replaced or deleted ──> forgotten

Only what a program asked for is noted: what is fetched ahead on a guess must not cost a restore. The list lives in
memory; after a restart the next refused read brings an object back to it, and HEAD tells that its restore is under way.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import trio

from gatewayfs.errors import ObjectNotFound, StoreError
from gatewayfs.runtime.clock import Clock
from gatewayfs.s3.store import ObjectInfo, ObjectStore
from gatewayfs.s3.wrapping import StoreCall, StoreWrapper
from gatewayfs.types import ObjectKey

log = logging.getLogger(__name__)

T = TypeVar("T")

OBJECTS_MAX = 10_000
"""Kept at a time; beyond, the one noted first is forgotten until it is read again."""

LOOK_AGAIN_S = 900.0
"""However often an object is read, S3 is asked about its restore no more often than this."""

EXAMPLES = 100
"""Of one ``status``."""

_FORGETTING = frozenset({"get", "fetch", "put", "delete", "complete_multipart"})


@dataclass(frozen=True, slots=True)
class RestoreSettings:
    """What to ask for. ``tier`` "" asks for nothing; else ``bulk``, ``standard`` or ``expedited``."""

    tier: str = ""
    days: int = 7


class Restorer(Protocol):
    """The part of the S3 client that is needed here."""

    async def head(self, key: ObjectKey) -> ObjectInfo: ...

    async def restore(self, key: ObjectKey, *, tier: str, days: int | None) -> None:
        """Ask for a readable copy for ``days``; None where S3 takes no number. Raises StoreError."""
        ...


@dataclass(slots=True)
class ArchivedObject:
    """One object that a program could not read. ``restore``: what became of asking for it, "" if nobody did."""

    key: str
    storage_class: str
    since_ns: int
    restore: str = ""
    looked_s: float = float("-inf")


@dataclass(frozen=True, slots=True)
class ArchivedExample:
    """One of them for ``status``."""

    path: str
    storage_class: str
    since_ns: int
    restore: str


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """What waits in archive tiers, as far as programs met it."""

    files: int
    restoring: bool
    """The share asks for restores by itself."""
    restores_asked: int
    examples: tuple[ArchivedExample, ...]


class ArchiveWatch(StoreWrapper):
    """``inner``, and what is known of objects that were refused.

    Args:
        restorer: asked about restores, and for them; not ``inner``, which may hold requests back.
    """

    def __init__(self, inner: ObjectStore, restorer: Restorer, clock: Clock, settings: RestoreSettings) -> None:
        super().__init__(inner)
        self._restorer, self._clock, self._settings = restorer, clock, settings
        self._objects: dict[str, ArchivedObject] = {}
        self._send, self._receive = trio.open_memory_channel[str](OBJECTS_MAX)
        self._asked = 0

    async def around(self, call: StoreCall, perform: Callable[[], Awaitable[T]]) -> T:
        """See ``StoreWrapper``."""
        result = await perform()
        if self._objects and call.operation in _FORGETTING:
            self._objects.pop(call.key, None)
        return result

    def note(self, key: str, storage_class: str) -> None:
        """Somebody needs the object's bytes and was refused. Never blocks."""
        found = self._objects.get(key)
        if found is None:
            found = self._objects[key] = ArchivedObject(key, storage_class, self._clock.time_ns())
            log.warning("%s is in an archive tier (%s) and cannot be read", key, storage_class or "unknown class")
            if len(self._objects) > OBJECTS_MAX:
                del self._objects[next(iter(self._objects))]
        now_s = self._clock.monotonic()
        if self._settings.tier and now_s - found.looked_s >= LOOK_AGAIN_S:
            try:
                self._send.send_nowait(key)
            except trio.WouldBlock:
                return  # the next read asks again
            found.looked_s = now_s

    async def run(self) -> None:
        """Ask for restores until cancelled, one at a time."""
        async for key in self._receive:
            found = self._objects.get(key)
            if found is not None:
                found.restore = await self._ask(ObjectKey(key))
                log.info("restore of %s: %s", key, found.restore)

    async def _ask(self, key: ObjectKey) -> str:
        """Returns what is to be said of the object from now on."""
        tier = self._settings.tier
        try:
            info = await self._restorer.head(key)
            if not info.archived:
                return "restored"
            if info.restoring:
                return "under way"
            # Archived tiers of INTELLIGENT_TIERING come back for good.
            for_good = info.storage_class == "INTELLIGENT_TIERING"
            await self._restorer.restore(key, tier=tier, days=None if for_good else self._settings.days)
        except ObjectNotFound:
            return "gone from the bucket"
        except StoreError as problem:
            if problem.code == "RestoreAlreadyInProgress":
                return "under way"
            return f"refused: {problem}"
        except Exception as problem:  # a bug costs this restore, not the mount
            log.exception("asking for the restore of %s failed", key)
            return f"failed: {problem!r}"
        self._asked += 1
        return f"asked for ({tier})"

    def status(self, prefix: str) -> ArchiveStatus:
        """The objects now; paths are relative to ``prefix``."""
        shown = list(self._objects.values())[:EXAMPLES]
        examples = tuple(
            ArchivedExample(item.key.removeprefix(prefix), item.storage_class, item.since_ns, item.restore)
            for item in shown
        )
        return ArchiveStatus(len(self._objects), bool(self._settings.tier), self._asked, examples)
