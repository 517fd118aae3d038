"""Attributes that a LIST does not tell: a HEAD for each file when it is first looked at, and ahead of a reader.

Mode, owner, exact times and other metadata of an object come with HEAD only. They are asked for when somebody needs
them, once, and kept. ``ls -l`` would pay one round trip per file, so while a directory is being read in order the pool
runs ahead of the reader by a growing number of files, never in the way of a file somebody waits for.

What HEAD says is also news: an object changed since it was listed is treated as replaced, one that is gone as removed.
"""

import logging
from collections import OrderedDict

import trio

from gatewayfs.errors import GatewayError, NoEntry, ObjectNotFound, Unavailable
from gatewayfs.meta.schema import Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.refresh import records
from gatewayfs.refresh.ahead import ReadAhead
from gatewayfs.refresh.apply import Applier
from gatewayfs.refresh.diff import same_time
from gatewayfs.refresh.news import News
from gatewayfs.refresh.records import replace
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.refresh.waiting import Requests, Shared
from gatewayfs.s3.store import ObjectInfo, ObjectStore
from gatewayfs.types import ObjectKey

log = logging.getLogger(__name__)

WINDOWS_WAITING = 4
"""Read-ahead windows that may wait for a place at once; with more readers than that the oldest wishes are dropped."""


class Ask(Shared):
    """One HEAD, waiting or in flight."""

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
        self._asks: dict[int, Ask] = {}
        self._demanded: OrderedDict[int, None] = OrderedDict()
        self._ahead: OrderedDict[int, None] = OrderedDict()
        self._reading = ReadAhead(self._meta.children, settings.ahead_max)
        self.nursery: trio.Nursery | None = None
        self.in_flight = 0
        self.heads = 0

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
            self._read_ahead(self._reading.follow(inode.parent, ino))
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

    def prefetch_attributes(self, parent: int, around_ino: int) -> None:
        """Somebody who reads ``parent`` in order is at ``around_ino``: ask ahead. Returns at once."""
        self._read_ahead(self._reading.advance(parent, around_ino))
        self._pump()

    def reads_attributes(self, parent: int) -> bool:
        """Whether somebody asks for the attributes in ``parent`` in order."""
        return self._reading.runs(parent)

    def expect_attributes(self, parent: int) -> None:
        """Somebody will: ask ahead from the beginning. Returns at once."""
        self._read_ahead(self._reading.expect(parent))
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

    def _read_ahead(self, inos: list[int]) -> None:
        for ino in inos:
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
        error: GatewayError | None = Unavailable("the share is stopping")
        try:
            await self._head(ask)
            error = None
        except GatewayError as problem:
            error = problem
        except Exception as problem:  # a bug costs the callers of this HEAD, not the mount
            log.exception("asking for the attributes of inode %d failed", ask.ino)
            error = Unavailable(f"internal error: {problem!r}")
        finally:
            del self._asks[ask.ino]
            self.in_flight -= 1
            ask.finish(error)
            self._pump()

    # ------------------------------------------------------------------ one HEAD

    async def _head(self, ask: Ask) -> None:
        inode = self._meta.inode(ask.ino)
        if inode is None:
            return
        key = _key(inode)
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
            with self._applier.change() as (tx, news):
                current = tx.inode(ask.ino)
                if current is None or _key(current) != key or self._applier.own.changed(key, mark):
                    return  # changed by us meanwhile: whoever still needs to know asks again
                if info is None:
                    self._missing(tx, news, current)
                else:
                    self._found(tx, news, current, info, mark)

    def _missing(self, tx: Transaction, news: News, inode: Inode) -> None:
        """No object there: an implicit directory, or a file that others removed."""
        if inode.dirty_since_ns or not inode.linked:
            # The uploader finds out when it needs the object; meanwhile the provisional attributes stand.
            tx.put(replace(inode, attributes_known=True))
        elif inode.is_directory:
            tx.put(records.without_marker(inode))
        else:
            self._applier.unlink(tx, news, inode)
            self._applier.entries_changed(tx, news, inode.parent)

    def _found(self, tx: Transaction, news: News, inode: Inode, info: ObjectInfo, mark: int) -> None:
        was = inode
        if inode.is_directory:
            if inode.remote is None and self._applier.motion.view(tx, mark).moves(info.key, info.etag):
                self._missing(tx, news, inode)  # somebody else's marker, on its way out
                return
            # A directory that is being moved before anybody looked at its marker has to take it along.
            unasked = inode.remote is None and not inode.attributes_known
            if not inode.dirty_since_ns or unasked:
                inode = records.with_marker(inode, info)
        elif not inode.dirty_since_ns and inode.linked:
            inode = self._renewed(tx, news, inode, info)
        if not inode.attributes_known:
            inode = records.with_attributes(inode, info, self._applier.defaults)
        if inode == was:
            return
        tx.put(inode)
        if was.attributes_known:
            news.stale(inode.ino, attributes_only=True)
        if inode.mode != was.mode and inode.is_symlink != was.is_symlink and inode.linked:
            news.appeared(inode.parent, inode.name)  # the kernel may hold it for a regular file

    def _renewed(self, tx: Transaction, news: News, inode: Inode, info: ObjectInfo) -> Inode:
        """A clean file's record after comparing it with what HEAD found."""
        remote = inode.remote
        assert remote is not None
        now_ns = self._applier.now_ns()
        if info.size != remote.size or remote.etag not in ("", info.etag):
            news.stale(inode.ino, attributes_only=False)
            return records.replaced(self._applier.rebased(tx, inode), info, now_ns)
        if remote.last_modified_ns and not same_time(info.last_modified_ns, remote.last_modified_ns):
            return records.touched(inode, info, now_ns)
        if not (remote.etag and remote.last_modified_ns):
            return replace(inode, remote=records.remote_of(info, inode))
        if inode.attributes_known:
            return inode
        return replace(inode, remote=replace(remote, version_id=info.version_id))  # LIST does not say it


def _key(inode: Inode) -> str:
    """What to HEAD: the object we know of, or where a directory's marker would be; "" for nothing."""
    if inode.remote is not None:
        return inode.remote.key
    return (inode.directory.source or "") if inode.directory is not None else ""
