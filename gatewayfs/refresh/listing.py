"""Listing directories: once on first use, again for a refresh, one walk at a time per directory.

    ensure_listed(ino)          the whole directory is in the records
    ensure_name(parent, name)   one name is decided: there, or right now not
    entries_after(ino, ...)     children as they arrive, for readdir
    renew(ino)                  list again and compare (refresh)

A walk runs in the background and outlives its callers: a reader who gives up finds it further on next time. It applies
page by page, so a directory of 100,000 entries shows its first after one request; a directory is never in memory as a
whole. Directories made here are complete at birth and never listed before a refresh asks.
"""

import logging
from collections.abc import Sequence

import trio

from gatewayfs.errors import GatewayError, NotADirectory, Unavailable
from gatewayfs.refresh import markers
from gatewayfs.refresh.apply import Applier, SourceMoved
from gatewayfs.refresh.diff import Rows, child_key, read_page
from gatewayfs.refresh.inoset import InoSet
from gatewayfs.refresh.listingpass import ListingPass, Walk
from gatewayfs.refresh.removal import SLICE, sweep
from gatewayfs.refresh.settings import RefreshSettings, Tally
from gatewayfs.refresh.waiting import Requests, Shared
from gatewayfs.s3.store import ListPage, ObjectStore

log = logging.getLogger(__name__)

STOPPED = "the share is starting or stopping: nothing is listed now"

LIST_KEYS_MAX = 1000
"""S3's own maximum per page."""


class Lister:
    """All listings of one share. ``nursery`` is set while ``Refresh.run`` runs."""

    def __init__(self, applier: Applier, store: ObjectStore, requests: Requests, settings: RefreshSettings) -> None:
        self._applier = applier
        self._meta = applier.meta
        self._store = store
        self._requests = requests
        self._motion = applier.motion
        self._settings = settings
        self._walks: dict[int, Walk] = {}
        self._doubted: set[int] = set()  # directories of which somebody was told "no such name" while they were listed
        self.nursery: trio.Nursery | None = None
        self.lists = 0
        self.listings = 0
        self.total = Tally()

    @property
    def listing_now(self) -> int:
        return len(self._walks)

    # ------------------------------------------------------------------ what handlers ask

    async def ensure_listed(self, ino: int) -> None:
        """Return when every child the bucket has under this directory has been listed once.

        Raises:
            Unavailable: the bucket does not answer, or not all within the deadline; the listing goes on.
            PermissionDenied, NotADirectory, StaleInode.
        """
        until = self._deadline()
        while not self._complete(ino):
            walk = self.join(ino)
            await walk.wait(lambda: False, until, f"listing of {self._place(ino)}")

    async def entries_after(self, ino: int, after_ino: int, wanted: int) -> tuple[list[int], bool]:
        """Up to ``wanted`` children with inode numbers above ``after_ino``, ascending, and whether these are the last.

        Waits only when there is none yet. A child that appears later has a higher number.

        Raises: as ``ensure_listed``.
        """
        until = self._deadline()
        while True:
            complete = self._complete(ino)
            found = self._meta.children(ino, after_ino, wanted)
            if found or complete:
                return found, complete and len(found) < wanted
            walk = self.join(ino)
            await walk.wait(
                lambda: bool(self._meta.children(ino, after_ino, 1)), until, f"listing of {self._place(ino)}"
            )

    def answers(self, parent: int, name: bytes) -> bool:
        """Whether the records answer for ``name``: it is there, it cannot be anywhere, or the directory is complete."""
        if self._complete(parent) or self._meta.lookup(parent, name) is not None:
            return True
        directory = self._meta.require(parent).directory
        return directory is None or child_key(directory.source or "", name) is None

    def is_listing(self, ino: int) -> bool:
        return ino in self._walks

    def join(self, ino: int) -> Walk:
        """The listing of a directory under way, started if there is none."""
        return self._walks.get(ino) or self._start(ino, renewing=False, recursive=False)

    def doubt(self, ino: int) -> None:
        """Somebody was told that a name does not exist in this directory before all of it was listed."""
        self._doubted.add(ino)

    def aside(self, ino: int, mark: int) -> ListingPass | None:
        """A pass to apply single rows with, beside a listing or without one; None where nothing can be listed."""
        walk = self._walks.get(ino)
        if walk is not None and walk.current is not None:
            return walk.current
        inode = self._meta.require(ino)
        if inode.directory is None or inode.directory.source is None:
            return None
        return ListingPass(ino, inode.directory.source, False, False, mark, None, tell=True)

    async def renew(self, ino: int, *, recursive: bool) -> Walk:
        """List a directory again from its beginning and compare. Returns the finished walk; look at its ``error``."""
        while (walk := self._walks.get(ino)) is not None:
            await walk.ended.wait()
        walk = self._start(ino, renewing=True, recursive=recursive)
        walk.want(self._deadline())
        await walk.ended.wait()
        return walk

    async def keys(self, prefix: str, token: str, start_after: str) -> ListPage:
        """One LIST of all keys below a prefix, at any depth."""
        self.lists += 1
        return await self._store.list_page(
            prefix, delimiter=False, token=token, start_after=start_after, max_keys=LIST_KEYS_MAX
        )

    def open_walk(self, ino: int, source: str, mark: int) -> Walk | None:
        """A renewing walk of a directory whose rows somebody else brings (``flat.py``), and who must close it.

        None when it is listed just now, or not from ``source``. ``mark``: held until it is closed.
        """
        if self.nursery is None:
            raise Unavailable(STOPPED)
        if ino in self._walks:
            return None
        walk = Walk(ino, renewing=True, recursive=True)
        try:
            walk.current = self._begin(walk, mark)
        except GatewayError as problem:
            log.info("%s is left to a listing of its own: %s", walk, problem)
            return None
        if walk.current is None or walk.current.source != source:
            return None
        self._walks[ino] = walk
        return walk

    def close_walk(self, walk: Walk, error: GatewayError | None) -> None:
        """The walk is at its end, or given up."""
        del self._walks[walk.ino]
        if error is None:
            self.listings += 1
            self._doubted.discard(walk.ino)
        if walk.current is not None:
            self.total.add(walk.current.tally)
        walk.finish(error)

    # ------------------------------------------------------------------ walks

    def _deadline(self) -> float:
        return trio.current_time() + self._settings.deadline_s

    def _complete(self, ino: int) -> bool:
        inode = self._meta.require(ino)
        if inode.directory is None:
            raise NotADirectory(f"inode {ino} is not a directory")
        return inode.directory.complete or inode.directory.source is None or not inode.linked

    def _place(self, ino: int) -> str:
        inode = self._meta.inode(ino)
        source = inode.directory.source if inode is not None and inode.directory is not None else None
        return f"{self._store.bucket}/{source or ''}"

    def _start(self, ino: int, *, renewing: bool, recursive: bool) -> Walk:
        if self.nursery is None:
            raise Unavailable(STOPPED)
        walk = self._walks[ino] = Walk(ino, renewing=renewing, recursive=recursive)
        self.nursery.start_soon(self._run, walk)
        return walk

    async def _run(self, walk: Walk) -> None:
        error: GatewayError | None = Unavailable("the share is stopping")
        try:
            await self._walk(walk)
            error = None
        except GatewayError as problem:
            error = problem
        except Exception as problem:  # a bug costs the callers of this listing, not the mount
            log.exception("listing inode %d failed", walk.ino)
            error = Unavailable(f"internal error: {problem!r}")
        finally:
            self.close_walk(walk, error)

    async def _walk(self, walk: Walk) -> None:
        while True:
            try:
                with self._applier.own.mark() as mark:
                    walk.current = self._begin(walk, mark)
                    if walk.current is not None:
                        await self._pages(walk, walk.current)
                return
            except SourceMoved as moved:
                log.info("listing starts again: %s", moved)

    def _begin(self, walk: Walk, mark: int) -> ListingPass | None:
        inode = self._meta.require(walk.ino)
        if inode.directory is None:
            raise NotADirectory(f"inode {walk.ino} is not a directory")
        source = inode.directory.source
        if source is None:
            source = markers.adopt(self._applier, walk.ino)
        if source is None:
            return None  # made here and not settled: nothing in the bucket is its
        if self._motion.claims.claimant(self._meta, source, walk.ino):
            # A new directory at the old place of one whose move has not ended.
            if walk.renewing:
                return None
            raise Unavailable(f"{self._place(walk.ino)} is being moved")
        seen = InoSet() if self._meta.has_children(walk.ino) else None
        tell = walk.renewing or walk.ino in self._doubted
        return ListingPass(
            walk.ino, source, walk.renewing, walk.recursive, mark, seen, tell, begun_ns=self._applier.now_ns()
        )

    async def _pages(self, walk: Walk, current: ListingPass) -> None:
        token = ""
        while True:
            with self._applier.own.mark() as mark:
                if walk.renewing:
                    walk.want(self._deadline())  # nobody waits for it: each page has its own time
                page = await self._requests.send(self._page, current.source, token, until=walk.until)
                self.lists += 1
                current.tally.lists += 1
                rows = read_page(current.source, page)
                await self._apply(walk, current, rows, mark)
            current.advance(rows.first, rows.last)
            token = page.next_token
            if not token:
                break
            walk.pages += 1
            walk.wake()
        await sweep(self._applier, current)
        markers.finish(self._applier, current)

    async def _page(self, source: str, token: str) -> ListPage:
        return await self._store.list_page(source, delimiter=True, token=token, max_keys=LIST_KEYS_MAX)

    async def _apply(self, walk: Walk, current: ListingPass, rows: Rows, mark: int) -> None:
        if rows.unrepresentable:
            self._applier.strange(current, rows.unrepresentable)
        if rows.marker is not None:
            markers.found(self._applier, current, rows.marker, mark)
        current.tell = current.tell or walk.ino in self._doubted
        for start in range(0, len(rows.files), SLICE):
            self._applier.objects(current, rows.files[start : start + SLICE], mark)
            await trio.lowlevel.checkpoint()
        doubtful: list[tuple[bytes, str]] = []
        for start in range(0, len(rows.directories), SLICE):
            doubtful += self._applier.prefixes(current, rows.directories[start : start + SLICE], mark)
            await trio.lowlevel.checkpoint()
        if doubtful:
            await self.verify(current, doubtful, walk)

    async def verify(self, current: ListingPass, doubtful: Sequence[tuple[bytes, str]], work: Shared) -> None:
        """Show those of the directories ``doubtful`` below which something is not in motion."""
        limit = trio.CapacityLimiter(self._settings.verify_concurrency)
        problems: list[GatewayError] = []

        async def one(name: bytes, prefix: str) -> None:
            async with limit:
                try:
                    current.tally.lists += await self._motion.verify(
                        prefix, current.ino, work.until, lambda: self._applier.confirmed(current, name, prefix)
                    )
                except GatewayError as problem:
                    problems.append(problem)

        async with trio.open_nursery() as nursery:
            for name, prefix in doubtful:
                nursery.start_soon(one, name, prefix)
        if problems:
            raise problems[0]
