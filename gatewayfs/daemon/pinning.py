"""What is pinned stays here: ``gatewayfs pin`` and ``unpin``, and the task behind them.

The task looks at what ``cache.pins`` names: files that lack bytes are fetched (others replaced the object, a listing
found a new one), directories that came under a pin are listed and walked, and what is not covered any more is counted
as evictable again. What could not be fetched is tried again each minute, and everything is walked hourly.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.live import NoRoom
from gatewayfs.cache.pins import PINNED_SHARE
from gatewayfs.cache.residence import absent_bytes, lacks
from gatewayfs.cache.wholefiles import BucketMovedOn
from gatewayfs.control import calls
from gatewayfs.control.server import Handler
from gatewayfs.control.server import Progress as Tell
from gatewayfs.daemon.keeping import Keeping
from gatewayfs.daemon.queueing import paths_of
from gatewayfs.errors import GatewayError, UserError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.runtime.clock import Clock
from gatewayfs.vfs.namespace import Namespace

log = logging.getLogger(__name__)

FETCH_AT_A_TIME = 4
"""Nobody waits for these; programs do for others."""

RETRY_S, WALK_S = 60.0, 3600.0

SHORT_MAX = 10_000
"""Files remembered because they are not all here; of more only the number counts, and the next walk finds them."""


@dataclass(frozen=True, slots=True)
class PinStatus:
    """For ``status``.

    Attributes:
        kept_files, kept_bytes: what is here because of a pin, and cannot be evicted.
        limit_bytes: how much that may be.
        short_files, short_path, short_reason: what is pinned and not all here, with an example.
    """

    paths: tuple[str, ...]
    kept_files: int
    kept_bytes: int
    limit_bytes: float
    short_files: int
    short_path: str
    short_reason: str


class Pinning:
    """Handlers of PIN and UNPIN, and the task that keeps what is pinned."""

    def __init__(
        self,
        cache: ContentCache,
        meta: MetaStore,
        refresh: Refresh,
        names: Namespace,
        clock: Clock,
        archived: Callable[[int], None],
    ) -> None:
        self._cache, self._meta, self._refresh, self._clock = cache, meta, refresh, clock
        self.keeping = Keeping(cache, meta, names, refresh, archived)
        self._pins = cache.pins
        self._short: dict[int, str] = {}
        self._fetching: set[int] = set()
        """Files that are fetched for nobody."""
        self._coming: set[int] = set()
        """Files whose bytes are on their way, for whoever pinned them too."""

    def handlers(self) -> Mapping[str, Handler]:
        """For the control server."""
        return {calls.PIN: self.pin, calls.UNPIN: self.unpin}

    def status(self) -> PinStatus:
        """The pins now."""
        room = self._cache.room
        ino, reason = next(iter(self._short.items()), (0, ""))
        inode = self._meta.inode(ino) if ino else None
        return PinStatus(
            paths=tuple(path or "." for path in self._pins.paths),
            kept_files=room.pinned_files,
            kept_bytes=room.pinned_bytes,
            limit_bytes=room.pinned_bytes_max,
            short_files=len(self._short),
            short_path=b"/".join(self._meta.path_of(ino)).decode(errors="replace") if inode and inode.linked else "",
            short_reason=reason,
        )

    async def pin(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        """Keep what the paths name for good; returns when all of it is here."""
        roots = await self.keeping.roots(args)
        for path, inode in roots:
            if not inode.is_directory and not inode.is_regular:
                raise UserError(f"{path}: is neither a file nor a directory: it has no bytes to keep")
        for path, inode in roots:
            self._pins.add(path, inode, self._clock.time_ns())
        await self._meta.sync()
        return await self.keeping.bring(roots, progress, self._bring)

    async def unpin(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        """Let go what was pinned by these paths, or below them: it may be evicted from now on."""
        room = self._cache.room
        files, kept_bytes = room.pinned_files, room.pinned_bytes
        for path in paths_of(args):
            before = self._pins.paths
            ended = self._pins.remove(path)
            if not ended and path:
                pinned = "pinned: " + (", ".join(before[:10]) or "the whole share")
                raise UserError(f"{path}: is not pinned by itself", pinned if before else "nothing is pinned")
            roots = [(path, inode) for pin in ended if (inode := self._meta.inode(pin.ino)) is not None]
            async for _, inode in self.keeping.tree.files(roots, None):
                self._rebook(inode)
                progress({"files": max(0, files - room.pinned_files), "bytes": max(0, kept_bytes - room.pinned_bytes)})
        await self._meta.sync()
        return {"files": max(0, files - room.pinned_files), "bytes": max(0, kept_bytes - room.pinned_bytes)}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep what is pinned, for ever."""
        limiter = trio.CapacityLimiter(FETCH_AT_A_TIME)
        task_status.started()
        walked_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                # Each minute, whatever is known now: what is being fetched may fail after this.
                with trio.move_on_after(RETRY_S) as waited:
                    await self._pins.work()
                if trio.current_time() - walked_s >= WALK_S:
                    walked_s = trio.current_time()
                    self._pins.look_at_all()
                elif waited.cancelled_caught:
                    self._pins.look(list(self._short))
                try:
                    self._pins.save()
                except GatewayError as problem:
                    log.warning("where pinned files are called now is not written down yet: %s", problem)
                while self._pins.pending:
                    await self._look(self._pins.pending.pop(), nursery, limiter)
                    await trio.lowlevel.checkpoint()

    # ------------------------------------------------------------------ inside

    async def _look(self, ino: int, nursery: trio.Nursery, limiter: trio.CapacityLimiter) -> None:
        inode = self._meta.inode(ino)
        if inode is None or not (inode.is_directory or self._pins.covers(inode)):
            self._short.pop(ino, None)
        if inode is not None and inode.is_directory:
            await self._look_below(inode, nursery, limiter)
        elif inode is not None and inode.is_regular:
            await self._look_at_file(inode, nursery, limiter)

    async def _look_below(self, directory: Inode, nursery: trio.Nursery, limiter: trio.CapacityLimiter) -> None:
        covered, ino = self._pins.covers(directory), directory.ino
        # First, so that what the listing finds is seen as it comes.
        self._pins.found(directory, covered=covered)
        self._short.pop(ino, None)
        if covered:
            try:
                await self.keeping.tree.ensure_listed(ino)
            except GatewayError as problem:
                self._lack(ino, str(problem))
        async for inode in self.keeping.tree.children(ino):
            if inode.is_directory:
                self._pins.pending.add(inode.ino)
            elif inode.is_regular:
                await self._look_at_file(inode, nursery, limiter)

    async def _look_at_file(self, inode: Inode, nursery: trio.Nursery, limiter: trio.CapacityLimiter) -> None:
        self._rebook(inode)
        if inode.ino not in self._fetching and lacks(inode, self._cache.live(inode.ino)) and self._pins.covers(inode):
            await limiter.acquire_on_behalf_of(inode.ino)
            self._fetching.add(inode.ino)
            nursery.start_soon(self._fetch, inode.ino, limiter)

    async def _fetch(self, ino: int, limiter: trio.CapacityLimiter) -> None:
        try:
            await self._bring(ino)
        except BucketMovedOn:
            self._lack(ino, "changed in the bucket; gatewayfs refresh-cache shows what it is now")
        except (NoRoom, GatewayError) as problem:
            self._lack(ino, str(problem))
        finally:
            self._fetching.discard(ino)
            limiter.release_on_behalf_of(ino)

    async def _bring(self, ino: int) -> int:
        """Fetch a file to be kept; returns how many bytes were absent. Raises NoRoom, BucketMovedOn, GatewayError."""
        room, absent = self._cache.room, self._absent_bytes(ino)
        # What is on its way counts: else of eight large files that come together none may find room for its end.
        coming = sum(self._absent_bytes(other) for other in self._coming if other != ino)
        if absent and room.pinned_bytes + coming + absent > room.pinned_bytes_max:
            self._lack(ino, self._too_much())
            raise NoRoom(self._too_much())
        self._coming.add(ino)
        try:
            fetched = await self.keeping.fetch(ino)
        finally:
            self._coming.discard(ino)
        if (now := self._meta.inode(ino)) is not None:
            self._rebook(now)
            if ino in self._short:
                raise NoRoom(self._short[ino])
        return fetched

    def _absent_bytes(self, ino: int) -> int:
        inode = self._meta.inode(ino)
        return 0 if inode is None else absent_bytes(inode, self._cache.live(ino))

    def _rebook(self, inode: Inode) -> None:
        self._cache.rebook(inode.ino)
        self._short.pop(inode.ino, None)
        if self._cache.room.overflows(inode):
            self._lack(inode.ino, self._too_much())

    def _lack(self, ino: int, reason: str) -> None:
        if ino in self._short or len(self._short) < SHORT_MAX:
            self._short[ino] = reason

    def _too_much(self) -> str:
        limit = int(self._cache.room.pinned_bytes_max) >> 20
        return (
            f"more is pinned than the cache keeps ({limit} MiB, {PINNED_SHARE:.0%} of cache.size): "
            "it is served, and may be evicted"
        )
