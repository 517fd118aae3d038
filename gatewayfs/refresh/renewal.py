"""``refresh-cache``: list again what was listed before, and say what came of it.

As File Gateway has it: the inventory only, no data; recursively, but only into folders that are known here, because an
unlisted one is listed on first use anyway. A refresh of an unchanged bucket costs one LIST per 1000 names and directory
and no HEAD. Directories are taken a few at a time, each page by page, so memory and the pauses it makes do not grow
with the bucket.
"""

from collections import deque
from collections.abc import Sequence

import trio

from gatewayfs.errors import FsError, GatewayError, NoEntry, NotADirectory, StaleInode, StoreError, Unavailable
from gatewayfs.meta.env import MetaStore
from gatewayfs.refresh.listing import Lister, Walk
from gatewayfs.refresh.naming import Names
from gatewayfs.refresh.settings import RefreshReport, RefreshSettings, Tally
from gatewayfs.refresh.waiting import as_fs_error
from gatewayfs.types import ROOT_INO

ERRORS_MAX = 20


class Renewal:
    """One refresh of some folders.

    ``listed`` and ``tally`` may be read while it runs.
    """

    def __init__(self, meta: MetaStore, lister: Lister, names: Names, settings: RefreshSettings) -> None:
        self._meta = meta
        self._lister = lister
        self._names = names
        self._settings = settings
        self._waiting: deque[int] = deque()
        self._taken: set[int] = set()
        self._errors: list[str] = []
        self._failure: GatewayError | None = None
        self.listed = 0
        self.tally = Tally()

    async def run(self, folders: Sequence[str], *, recursive: bool) -> RefreshReport:
        """Refresh ``folders``, paths from the share's root.

        Raises:
            NoEntry, NotADirectory: a folder does not exist, here or in the bucket.
            Unavailable: the bucket does not answer; what was listed so far is applied.
        """
        for folder in folders:
            self._take(await self._resolve(folder))
        while self._waiting and self._failure is None:
            async with trio.open_nursery() as nursery:
                for _ in range(min(self._settings.refresh_concurrency, len(self._waiting))):
                    nursery.start_soon(self._worker, recursive)
        if self._failure is not None:
            raise as_fs_error(self._failure)
        tally = self.tally
        return RefreshReport(
            listed=self.listed,
            added=tally.added,
            changed=tally.changed,
            removed=tally.removed,
            kept_dirty=tally.kept_dirty,
            shadowed=tally.shadowed,
            unrepresentable=tally.unrepresentable,
            requests=tally.requests,
            errors=tuple(self._errors),
        )

    async def _resolve(self, folder: str) -> int:
        """The inode of a folder; asks the bucket for names that are not known here."""
        ino = int(ROOT_INO)
        until = trio.current_time() + self._settings.deadline_s
        for part in filter(None, folder.split("/")):
            name = part.encode(errors="replace")
            found = self._meta.lookup(ino, name)
            if found is None:
                await self._names.probe(ino, name, until)
                self.tally.requests += 2
                found = self._meta.lookup(ino, name)
            if found is None:
                raise NoEntry(folder)
            if not found.is_directory:
                raise NotADirectory(folder)
            ino = found.ino
        return ino

    def _take(self, ino: int) -> None:
        inode = self._meta.inode(ino)
        if inode is None or inode.directory is None or ino in self._taken:
            return
        if inode.directory.complete or self._meta.has_children(ino) or self._lister.is_listing(ino):
            self._taken.add(ino)
            self._waiting.append(ino)

    async def _worker(self, recursive: bool) -> None:
        while self._waiting and self._failure is None:
            ino = self._waiting.popleft()
            try:
                self._account(await self._lister.renew(ino, recursive=recursive))
            except FsError as stopping:
                self._failure = stopping

    def _account(self, walk: Walk) -> None:
        current = walk.current
        if current is not None:
            self.tally.add(current.tally)
        if walk.error is None:
            self.listed += current is not None
            for ino in current.subdirectories if current is not None else ():
                self._take(ino)
        elif isinstance(walk.error, StaleInode | NotADirectory):
            return  # removed meanwhile
        elif isinstance(walk.error, StoreError) and not walk.error.transient:
            if len(self._errors) < ERRORS_MAX:
                source = current.source if current is not None else ""
                self._errors.append(f"/{source}: {walk.error}")
        else:
            self._failure = walk.error if isinstance(walk.error, StoreError | FsError) else Unavailable(str(walk.error))
