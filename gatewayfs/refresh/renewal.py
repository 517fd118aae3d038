"""``refresh-cache``: list again what was listed before, and say what came of it.

As File Gateway has it: the inventory only, no data; recursively, but only into folders that are known here, because an
unlisted one is listed on first use anyway. Each tree is taken as one stream of LISTs or directory by directory, as
costs fewer of them (``estimate.py``); an unchanged bucket of N objects costs N/1000 LISTs and no HEAD. A few streams or
directories are under way at a time, each page by page, so memory and the pauses it makes do not grow with the bucket.

How far it is stands in the records: each directory says when its last listing began. One that was listed since the
refresh was asked for is not listed again, so a refresh that is run again after a restart goes on where it was.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio

from gatewayfs.errors import FsError, GatewayError, NoEntry, NotADirectory, StaleInode, StoreError, Unavailable
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh.estimate import estimate
from gatewayfs.refresh.flat import FlatWalk, Unordered
from gatewayfs.refresh.listing import Lister
from gatewayfs.refresh.listingpass import Walk
from gatewayfs.refresh.naming import Names
from gatewayfs.refresh.removal import SLICE
from gatewayfs.refresh.settings import RefreshProgress, RefreshReport, RefreshSettings
from gatewayfs.refresh.waiting import as_fs_error
from gatewayfs.runtime.clock import Clock
from gatewayfs.types import ROOT_INO

log = logging.getLogger(__name__)


class Renewal:
    """One refresh of some folders.

    Args:
        progress: where it counts; one that an earlier run of the same refresh left goes on.
    """

    def __init__(
        self,
        meta: MetaStore,
        clock: Clock,
        lister: Lister,
        names: Names,
        settings: RefreshSettings,
        progress: RefreshProgress,
        flat: Callable[[RefreshProgress, Callable[[Inode], bool]], FlatWalk],
    ) -> None:
        self._meta = meta
        self._clock = clock
        self._lister = lister
        self._names = names
        self._settings = settings
        self._waiting: deque[int] = deque()
        self._flat = flat
        self._streams = True
        self._failure: GatewayError | None = None
        self.progress = progress

    async def run(self, folders: Sequence[str], *, recursive: bool) -> RefreshReport:
        """Refresh ``folders``, paths from the share's root.

        Raises:
            NoEntry, NotADirectory: none of the folders exists, here or in the bucket.
            Unavailable: the bucket does not answer; what was listed so far is applied.
        """
        missing: list[FsError] = []
        chosen = disjoint(folders, recursive=recursive)
        for folder in chosen:
            try:
                self._take(await self.resolve(folder))
            except (NoEntry, NotADirectory) as problem:
                missing.append(problem)
        if len(missing) == len(chosen):
            raise missing[0]
        for one in missing:
            self.progress.failed(str(one))
        while self._waiting and self._failure is None:
            async with trio.open_nursery() as nursery:
                for _ in range(min(self._settings.refresh_concurrency, len(self._waiting))):
                    nursery.start_soon(self._worker, recursive)
        if self._failure is not None:
            raise as_fs_error(self._failure)
        return self.progress.report()

    async def resolve(self, folder: str) -> int:
        """The inode of a folder; asks the bucket for names that are not known here.

        Raises:
            NoEntry, NotADirectory: no such folder, here or in the bucket. Unavailable: the bucket does not answer.
        """
        ino = int(ROOT_INO)
        until = trio.current_time() + self._settings.deadline_s
        for part in filter(None, folder.split("/")):
            name = part.encode(errors="replace")
            found = self._meta.lookup(ino, name)
            if found is None:
                await self._names.probe(ino, name, until)
                self.progress.tally.lists += 1
                self.progress.tally.heads += 1
                found = self._meta.lookup(ino, name)
            if found is None:
                raise NoEntry(f"{folder}: no such folder, here or in the bucket")
            if not found.is_directory:
                raise NotADirectory(f"{folder}: not a folder")
            ino = found.ino
        return ino

    def _take(self, ino: int) -> None:
        inode = self._meta.inode(ino)
        if inode is None or inode.directory is None:
            return
        if inode.directory.complete or self._meta.has_children(ino) or self._lister.is_listing(ino):
            self._waiting.append(ino)

    async def _worker(self, recursive: bool) -> None:
        while self._waiting and self._failure is None:
            ino = self._waiting.popleft()
            try:
                if not (recursive and await self._stream(ino)):
                    await self._single(ino, recursive=recursive)
            except StaleInode:
                continue  # removed meanwhile
            except FsError as stopping:
                self._failure = stopping

    async def _single(self, ino: int, *, recursive: bool) -> None:
        """Take a directory by itself; recursively, what it shows waits for its turn."""
        if not self._is_done(self._meta.require(ino)):
            self._account(await self._lister.renew(ino, recursive=recursive))
        elif recursive:
            await self._take_below(ino)

    async def _stream(self, ino: int) -> bool:
        """Take the whole tree at a directory at once, if that is cheaper; returns whether it was."""
        if not self._streams or not (await estimate(self._meta, ino, self._is_done)).streams:
            return False
        walk = self._flat(self.progress, self._is_done)
        try:
            await walk.run(ino)
        except Unordered as problem:
            log.info("directories are listed one by one: %s", problem)
            self._streams = False
            self._take(ino)
        except StoreError as problem:
            if problem.transient:
                self._failure = problem
            else:  # whoever may not list everything may list some of it
                self._streams = False
                self._take(ino)
        for left in walk.left:
            await self._single(left, recursive=False)
        return True

    def _is_done(self, inode: Inode) -> bool:
        """Whether a directory was listed since this refresh was asked for.

        A date in the future, of a clock that was set back since, proves nothing.
        """
        directory = inode.directory
        return directory is not None and self.progress.since_ns < directory.listed_ns <= self._clock.time_ns()

    async def _take_below(self, ino: int) -> None:
        """The directory itself is done: go on with those in it."""
        after = 0
        while batch := self._meta.children(ino, after, SLICE):
            after = batch[-1]
            for child in batch:
                inode = self._meta.inode(child)
                if inode is not None and inode.is_directory:
                    self._take(child)
            await trio.lowlevel.checkpoint()

    def _account(self, walk: Walk) -> None:
        current, progress = walk.current, self.progress
        if current is not None:
            progress.tally.add(current.tally)
        if walk.error is None:
            progress.listed += current is not None
            for ino in current.subdirectories if current is not None else ():
                self._take(ino)
        elif isinstance(walk.error, StaleInode | NotADirectory):
            return  # removed meanwhile
        elif isinstance(walk.error, StoreError) and not walk.error.transient:
            progress.failed(f"/{current.source if current is not None else ''}: {walk.error}")
        else:
            self._failure = walk.error if isinstance(walk.error, StoreError | FsError) else Unavailable(str(walk.error))


def disjoint(folders: Sequence[str], *, recursive: bool) -> list[str]:
    """Paths like ``/a/b`` for ``folders``, each once; recursively, none that lies below another."""
    found: dict[str, None] = {}
    for folder in folders:
        parts = [part for part in folder.split("/") if part]
        found["/" + "/".join(parts)] = None
    if not recursive:
        return list(found)
    return [folder for folder in found if not any(_above(other, folder) for other in found)]


def _above(upper: str, lower: str) -> bool:
    return lower != upper and lower.startswith(upper.rstrip("/") + "/")
