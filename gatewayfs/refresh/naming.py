"""Answering one lookup in a directory that is still being listed.

Waiting for the whole listing would make the first ``cat dir/file`` of a large directory slow; asking the bucket for
each name would make ``git status`` slow. So: start the listing, see whether its first page (or any that came meanwhile)
decides the name, and only if not ask for just this name: HEAD for a file and a LIST of one key for a directory.
"""

import logging

import trio

from gatewayfs.errors import GatewayError, ObjectNotFound, Unavailable
from gatewayfs.refresh.apply import Applier, SourceMoved
from gatewayfs.refresh.diff import child_key
from gatewayfs.refresh.listing import Lister
from gatewayfs.refresh.listingpass import ListingPass, Walk
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.refresh.waiting import Requests, Shared
from gatewayfs.s3.store import ListPage, ObjectInfo, ObjectStore
from gatewayfs.types import ObjectKey

log = logging.getLogger(__name__)


class Names:
    """Decides single names. ``nursery`` is set while ``Refresh.run`` runs."""

    def __init__(
        self, applier: Applier, lister: Lister, store: ObjectStore, requests: Requests, settings: RefreshSettings
    ) -> None:
        self._applier = applier
        self._meta = applier.meta
        self._lister = lister
        self._store = store
        self._requests = requests
        self._deadline_s = settings.deadline_s
        self._asked: dict[tuple[int, bytes], Shared] = {}
        self.nursery: trio.Nursery | None = None
        self.probes = 0

    async def ensure_name(self, parent: int, name: bytes) -> None:
        """Return when the records say, as of now, what ``name`` in ``parent`` is, or that it is not.

        Raises:
            Unavailable: the bucket does not answer within the deadline. PermissionDenied: it refuses.
            NotADirectory, StaleInode.
        """
        until = trio.current_time() + self._deadline_s
        what = repr(name.decode(errors="replace"))
        while not self._lister.answers(parent, name):
            walk = self._lister.join(parent)
            await walk.wait(lambda: walk.pages > 0 or self._decided(walk, parent, name), until, f"listing for {what}")  # noqa: B023
            if walk.finished:
                continue
            if not self._decided(walk, parent, name):
                await self._probe(parent, name).wait(lambda: False, until, what)
            if self._meta.lookup(parent, name) is None:
                self._lister.doubt(parent)
            return

    async def probe(self, parent: int, name: bytes, until: float) -> None:
        """Ask the bucket for this one name, whatever the records say of its directory."""
        await self._probe(parent, name).wait(lambda: False, until, repr(name.decode(errors="replace")))

    def _decided(self, walk: Walk, parent: int, name: bytes) -> bool:
        return walk.decided(name) or self._meta.lookup(parent, name) is not None

    def _probe(self, parent: int, name: bytes) -> Shared:
        asked = self._asked.get((parent, name))
        if asked is None:
            if self.nursery is None:
                raise Unavailable("the share is starting or stopping: nothing is asked now")
            asked = self._asked[parent, name] = Shared()
            self.nursery.start_soon(self._run, asked, parent, name)
        return asked

    async def _run(self, asked: Shared, parent: int, name: bytes) -> None:
        error: GatewayError | None = None
        try:
            while not await self._ask(asked, parent, name):
                pass
        except GatewayError as problem:
            error = problem
        except Exception as problem:  # a bug costs the callers of this probe, not the mount
            log.exception("asking for %r in inode %d failed", name, parent)
            error = Unavailable(f"internal error: {problem!r}")
        finally:
            del self._asked[parent, name]
            asked.finish(error)

    async def _ask(self, asked: Shared, parent: int, name: bytes) -> bool:
        """Ask and apply; False when the directory is listed from elsewhere by now."""
        with self._applier.own.mark() as mark:
            current = self._lister.aside(parent, mark)
            key = child_key(current.source, name) if current is not None else None
            if current is None or key is None:
                return True
            self.probes += 1
            info, page = await self._both(asked, key)
            try:
                if page.objects:
                    await self._apply_directory(asked, current, name, key + "/", mark)
                elif info is not None:
                    self._applier.found(current, name, info, mark)
            except SourceMoved:
                return False
            return True

    async def _both(self, asked: Shared, key: str) -> tuple[ObjectInfo | None, ListPage]:
        info: ObjectInfo | None = None
        page = ListPage([], [], "")
        problems: list[GatewayError] = []

        async def head() -> None:
            nonlocal info
            try:
                info = await self._requests.send(self._store.head, ObjectKey(key), until=asked.until)
            except ObjectNotFound:
                pass
            except GatewayError as problem:
                problems.append(problem)

        async def below() -> None:
            nonlocal page
            try:
                page = await self._requests.send(self._first_below, key + "/", until=asked.until)
            except GatewayError as problem:
                problems.append(problem)

        async with trio.open_nursery() as nursery:
            for ask in (head, below):
                nursery.start_soon(ask)
        if problems:
            raise problems[0]
        return info, page

    async def _first_below(self, prefix: str) -> ListPage:
        return await self._store.list_page(prefix, delimiter=False, max_keys=1)

    async def _apply_directory(self, asked: Shared, current: ListingPass, name: bytes, prefix: str, mark: int) -> None:
        doubtful = self._applier.prefixes(current, [(name, prefix)], mark)
        if doubtful:
            await self._lister.verify(current, doubtful, asked)
