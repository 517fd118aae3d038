"""What is in the cache, in an operator's hands: fetch a tree now (warm), or let its bytes go now (evict).

Both walk what the paths name, directories listed on the way, and report what they could not do and why. Only so many
reasons are kept: a tree may have millions of files.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from gatewayfs.cache.content import ContentCache
from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.live import NoRoom
from gatewayfs.cache.room import hold_of
from gatewayfs.cache.wholefiles import BucketMovedOn
from gatewayfs.control import calls
from gatewayfs.control.server import Handler
from gatewayfs.control.server import Progress as Tell
from gatewayfs.daemon.queueing import paths_of
from gatewayfs.daemon.tree import Tree
from gatewayfs.errors import Archived, GatewayError, Unavailable, UserError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.types import ROOT_INO
from gatewayfs.vfs.namespace import Namespace

WARM_AT_A_TIME = 8
"""Files fetched at a time: small ones cost a round trip each; more would take the link from those who wait for it."""

EVICT_AT_A_TIME = 128
"""Files let go with one sync."""

LEFT_MAX = 100


class Report:
    """What was done so far, as the calls answer it."""

    def __init__(self, progress: Tell) -> None:
        self._progress = progress
        self.files = self.bytes = self.left_files = 0
        self.left: list[dict[str, str]] = []

    def done(self, size_bytes: int) -> None:
        """One file more."""
        self.files += 1
        self.bytes += size_bytes
        self._progress({"files": self.files, "bytes": self.bytes})

    def failed(self, path: str, reason: str) -> None:
        """One file, or directory, that could not be done."""
        self.left_files += 1
        if len(self.left) < LEFT_MAX:
            self.left.append({"path": path, "reason": reason})

    def answer(self) -> dict[str, Any]:
        """For the caller."""
        return {"files": self.files, "bytes": self.bytes, "files_left": self.left_files, "left": self.left}


class Keeping:
    """Handlers of WARM and EVICT.

    Args:
        archived: told of files whose bytes are in an archive tier.
    """

    def __init__(
        self,
        cache: ContentCache,
        meta: MetaStore,
        names: Namespace,
        refresh: Refresh,
        archived: Callable[[int], None],
    ) -> None:
        self._cache, self._meta, self._names, self._refresh = cache, meta, names, refresh
        self.tree = Tree(meta, refresh)
        self._archived = archived

    def handlers(self) -> Mapping[str, Handler]:
        """For the control server."""
        return {calls.WARM: self.warm, calls.EVICT: self.evict}

    async def warm(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        """Fetch every absent byte of what the paths name."""
        return await self.bring(await self.roots(args), progress, self.fetch)

    async def bring(
        self, roots: list[tuple[str, Inode]], progress: Tell, fetch: Callable[[int], Awaitable[int]]
    ) -> dict[str, Any]:
        """Have every file at and below ``roots`` fetched by ``fetch``, several at a time; returns the report."""
        report = Report(progress)
        limiter = trio.CapacityLimiter(WARM_AT_A_TIME)

        async def one(path: str, ino: int) -> None:
            try:
                report.done(await fetch(ino))
            except NoRoom as problem:
                report.failed(path, str(problem))
            except BucketMovedOn:
                report.failed(path, "changed in the bucket; gatewayfs refresh-cache shows what it is now")
            except GatewayError as problem:
                if isinstance(problem, Archived):
                    self._archived(ino)
                report.failed(path, str(problem))
            finally:
                limiter.release_on_behalf_of(ino)

        async with trio.open_nursery() as nursery:
            async for path, inode in self.tree.files(roots, report.failed):
                await limiter.acquire_on_behalf_of(inode.ino)
                nursery.start_soon(one, path, inode.ino)
        return report.answer()

    async def evict(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        """Let the clean bytes of what the paths name go."""
        report = Report(progress)
        batch: dict[int, str] = {}
        async for path, inode in self.tree.files(await self.roots(args), report.failed):
            batch[inode.ino] = path
            if len(batch) >= EVICT_AT_A_TIME:
                await self._let_go(batch, report)
        await self._let_go(batch, report)
        return report.answer()

    async def fetch(self, ino: int) -> int:
        """Returns how many bytes were absent. Attributes come too: without them the file cannot be opened offline."""
        await self._refresh.ensure_attributes(ino)
        with self._cache.using(self._meta.require(ino)) as content:
            absent = 0 if content.resident else content.size - content.extents.total_bytes
            while absent:
                before = content.extents.total_bytes
                try:
                    await self._cache.fetch(content, 0, content.size)
                    break
                except Unavailable:
                    # The deadline is that of a read. A large file on a thin line takes longer, while bytes come.
                    if content.extents.total_bytes <= before:
                        raise
            return absent

    async def _let_go(self, batch: dict[int, str], report: Report) -> None:
        room = self._cache.room
        sizes = {ino: sum(room.entries.size(key) for key in room.keys_of(ino)) for ino in batch}
        await self._cache.evictor.evict([key for ino in batch for key in room.keys_of(ino)])
        for ino, path in batch.items():
            left = sum(room.entries.size(key) for key in room.keys_of(ino))
            if left:
                report.failed(path, self._why(ino))
            elif sizes[ino]:
                report.done(sizes[ino])
        batch.clear()

    def _why(self, ino: int) -> str:
        """Why a file's bytes stayed."""
        inode = self._meta.inode(ino)
        hold = hold_of(inode) if inode is not None else Hold.KEPT
        if hold is Hold.DIRTY:
            return "not uploaded yet"
        if inode is not None and self._cache.pins.covers(inode):
            return "pinned; gatewayfs unpin lets it go"
        return "in use" if self._cache.live(ino) is not None else "an upload of its name or attributes is pending"

    async def roots(self, args: Mapping[str, Any]) -> list[tuple[str, Inode]]:
        """What the paths name. Raises UserError for one that is not there."""
        return [(path, await self._find(path)) for path in paths_of(args)]

    async def _find(self, path: str) -> Inode:
        inode = self._meta.require(ROOT_INO)
        try:
            for name in filter(None, path.split("/")):
                inode = await self._names.lookup(inode.ino, name.encode())
        except (GatewayError, UnicodeEncodeError) as problem:
            raise UserError(f"{path}: {problem}") from problem
        return inode
