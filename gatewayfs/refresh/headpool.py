"""Attributes that a LIST does not tell: a HEAD for each file when it is first looked at, and ahead of a reader.

Mode, owner, exact times and other metadata of an object come with HEAD only. They are asked for when somebody needs
them, once, and kept. ``ls -l`` would pay one round trip per file, so while a directory is being read in order the pool
runs ahead of the reader by a growing number of files, never in the way of a file somebody waits for.

Who will read a small file's bytes as well (``vfs/walking.py``) gets both by one GET: its headers say what HEAD's do.
For everybody else it is a HEAD like any other; there is one request per file, whichever kind comes first.

What HEAD says is also news: an object changed since it was listed is treated as replaced, one that is gone as removed.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from gatewayfs.errors import GatewayError, NoEntry, ObjectNotFound, StoreError, Unavailable
from gatewayfs.meta.schema import Inode, Remote
from gatewayfs.refresh.ahead import ReadAhead
from gatewayfs.refresh.answers import Answers, asked_key
from gatewayfs.refresh.apply import Applier
from gatewayfs.refresh.records import replace
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.refresh.waiting import Requests, Shared
from gatewayfs.s3.store import ObjectInfo, ObjectStore
from gatewayfs.types import ETag, ObjectKey

log = logging.getLogger(__name__)

WINDOWS_WAITING = 4
"""Read-ahead windows that may wait for a place at once; with more readers than that the oldest wishes are dropped."""


class Ask(Shared):
    """One HEAD, or the GET in its place, waiting or in flight."""

    def __init__(self, ino: int) -> None:
        super().__init__()
        self.ino = ino
        self.started = False


class HeadPool:
    """HEAD requests of one share. ``nursery`` is set while ``Refresh.run`` runs."""

    def __init__(self, applier: Applier, store: ObjectStore, requests: Requests, settings: RefreshSettings) -> None:
        self._applier = applier
        self._meta = applier.meta
        self._store = store
        self._requests = requests
        self._settings = settings
        self._answers = Answers(applier)
        self._asks: dict[int, Ask] = {}
        self._demanded: OrderedDict[int, None] = OrderedDict()
        self._ahead: OrderedDict[int, None] = OrderedDict()
        self._reading = ReadAhead(self._meta.children, settings.ahead_max, trio.current_time)
        self.nursery: trio.Nursery | None = None
        self.in_flight = 0
        self.heads = 0
        self.elsewhere: Callable[[int, list[int]], list[int]] = _nobody
        """Told what will be asked for ahead in a directory; returns what is left to ask here (set by ``vfs``)."""

    @property
    def waiting(self) -> int:
        return len(self._demanded) + len(self._ahead)

    # ------------------------------------------------------------------ what handlers ask

    async def ensure_attributes(self, ino: int, *, guessed: bool = False) -> None:
        """Return when mode, owner and times of ``ino`` are known.

        Args:
            guessed: nobody asked; says nothing about the order somebody reads in.

        Raises:
            NoEntry: others removed it; so did we now. StaleInode: it is gone.
            Unavailable: the bucket does not answer within the deadline. PermissionDenied: it refuses.
        """
        until = trio.current_time() + self._settings.deadline_s
        inode = self._meta.require(ino)
        if not inode.attributes_known and inode.parent and not guessed:
            self._read_ahead(inode.parent, self._reading.follow(inode.parent, ino))
        while not self._meta.require(ino).attributes_known:
            await self._demand(ino, until)
            self._check_there(inode)

    async def recheck(self, ino: int) -> None:
        """HEAD again, known or not: bring in what changed at this key. Raises as ``ensure_attributes``."""
        until = trio.current_time() + self._settings.deadline_s
        inode = self._meta.require(ino)
        if (ask := self._asks.get(ino)) is not None and ask.started:
            with trio.move_on_at(until):
                await ask.ended.wait()  # its answer may be older than what made the caller doubt
        await self._demand(ino, until)
        self._check_there(inode)

    async def read_small(self, ino: int) -> tuple[ETag, bytes] | None:
        """All bytes of an object whose attributes are not known, by one GET that tells those as well.

        Returns its etag and its bytes; None when there is nothing to GET, somebody asks for the attributes already, or
        the answer was none (a HEAD has found out then, if one could). Look at the record, either way.

        Raises:
            StaleInode, and what HEAD raised when the GET was refused.
        """
        inode, ask = self._meta.require(ino), self._asks.get(ino)
        if self.nursery is None or inode.attributes_known or inode.remote is None:
            return None
        if ask is not None and (ask.started or ino in self._demanded):
            return None
        self._ahead.pop(ino, None)
        ask = ask or Ask(ino)
        ask.started, self._asks[ino] = True, ask
        found: list[tuple[ETag, bytes]] = []
        await self._answer(ask, lambda: self._get(ask, found))
        if ask.error is not None:
            raise ask.error
        return found[0] if found else None

    def prefetch_attributes(self, parent: int, around_ino: int) -> None:
        """Somebody who reads ``parent`` in order is at ``around_ino``: ask ahead. Returns at once."""
        self._read_ahead(parent, self._reading.advance(parent, around_ino))
        self._pump()

    def names_read(self, parent: int) -> None:
        """Somebody reads the names in ``parent`` from the first on; it may ask for attributes next."""
        self._reading.begin(parent)

    def reads_attributes(self, parent: int) -> bool:
        """Whether somebody asks for the attributes in ``parent`` in order."""
        return self._reading.runs(parent)

    def expect_attributes(self, parent: int) -> None:
        """Somebody will: ask ahead from the beginning. Returns at once."""
        self._read_ahead(parent, self._reading.expect(parent))
        self._pump()

    def cancel_prefetch(self, parent: int) -> None:
        """The reader of ``parent`` is gone: what was not asked yet need not be."""
        self._reading.forget(parent)
        for ino in list(self._ahead):
            inode = self._meta.inode(ino)
            if inode is None or inode.parent == parent:
                del self._ahead[ino]
                self._asks.pop(ino).finish()

    # ------------------------------------------------------------------ the pool

    async def _demand(self, ino: int, until: float) -> None:
        if self.nursery is None:
            raise Unavailable("the share is starting or stopping: nothing is asked now")
        ask = self._asks.get(ino)
        if ask is None:
            ask = self._asks[ino] = Ask(ino)
        if not ask.started:
            self._ahead.pop(ino, None)
            self._demanded[ino] = None
        ask.want(until)
        self._pump()
        await ask.wait(lambda: False, until, f"attributes of inode {ino}")

    def _check_there(self, before: Inode) -> None:
        inode = self._meta.inode(before.ino)
        if inode is None or (before.linked and not inode.linked):
            raise NoEntry(f"inode {before.ino} was removed from the bucket")

    def _read_ahead(self, parent: int, inos: list[int]) -> None:
        for ino in self.elsewhere(parent, inos):
            inode = self._meta.inode(ino)
            if inode is not None and not inode.attributes_known and ino not in self._asks:
                self._asks[ino] = Ask(ino)
                self._ahead[ino] = None
        while len(self._ahead) > WINDOWS_WAITING * self._settings.ahead_max:
            oldest, _ = self._ahead.popitem(last=False)
            self._asks.pop(oldest).finish()

    def _pump(self) -> None:
        """Start what may start: everything demanded first, and ahead only so that demand finds a free place."""
        if self.nursery is None:
            return
        while self._demanded and self.in_flight < self._settings.head_concurrency:
            self._begin(self._demanded.popitem(last=False)[0])
        while self._ahead and self.in_flight < self._settings.head_concurrency - self._settings.head_reserved:
            self._begin(self._ahead.popitem(last=False)[0])

    def _begin(self, ino: int) -> None:
        assert self.nursery is not None
        ask = self._asks[ino]
        ask.started = True
        self.in_flight += 1
        self.nursery.start_soon(self._run, ask)

    async def _run(self, ask: Ask) -> None:
        try:
            await self._answer(ask, lambda: self._head(ask))
        finally:
            self.in_flight -= 1
            self._pump()

    async def _answer(self, ask: Ask, request: Callable[[], Awaitable[None]]) -> None:
        """Perform a started request; who waits for it learns how it ended."""
        error: GatewayError | None = Unavailable("the share is stopping")
        try:
            await request()
            error = None
        except GatewayError as problem:
            error = problem
        except Exception as problem:  # a bug costs the callers of this HEAD, not the mount
            log.exception("asking for the attributes of inode %d failed", ask.ino)
            error = Unavailable(f"internal error: {problem!r}")
        finally:
            del self._asks[ask.ino]
            ask.finish(error)

    # ------------------------------------------------------------------ one request

    async def _head(self, ask: Ask) -> None:
        inode = self._meta.inode(ask.ino)
        if inode is None:
            return
        key = asked_key(inode)
        if not key:
            # Made here, or the root of a whole bucket: nothing to ask, the defaults stand.
            with self._applier.change() as (tx, _):
                tx.put(replace(tx.require(ask.ino), attributes_known=True))
            return
        with self._applier.own.mark() as mark:
            self.heads += 1
            info: ObjectInfo | None = None
            try:
                info = await self._requests.send(self._store.head, ObjectKey(key), until=ask.until)
            except ObjectNotFound:
                pass
            self._answers.apply(ask.ino, key, info, mark)

    async def _get(self, ask: Ask, found: list[tuple[ETag, bytes]]) -> None:
        """The whole object into ``found``, its attributes into the record; a HEAD where GET is refused."""
        remote = self._meta.require(ask.ino).remote
        assert remote is not None
        with self._applier.own.mark() as mark:
            try:
                info, data = await self._requests.send(self._whole, remote, until=lambda: 0.0)
            except StoreError as problem:
                # Archived, replaced meanwhile, no answer: what becomes of that is decided where every HEAD's answer is.
                log.debug("HEAD in the place of GET: %s", problem)
            else:
                self._answers.apply(ask.ino, remote.key, info, mark)
                found.append((info.etag, data))
                return
        await self._head(ask)

    async def _whole(self, remote: Remote) -> tuple[ObjectInfo, bytes]:
        etag = ETag(remote.etag) if remote.etag else None
        return await self._store.get(ObjectKey(remote.key), 0, remote.size, if_match=etag)


def _nobody(_parent: int, inos: list[int]) -> list[int]:
    """Nobody else asks for any."""
    return inos
