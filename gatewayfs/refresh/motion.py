"""Telling what appeared in the bucket from what is only on its way out.

After ``rm -r d`` or ``mv d e`` the objects of ``d/`` stay in the bucket until the reconciler has deleted or moved them,
and every LIST shows them. They are known, so they are never taken for news:

* one by one by their keys: doomed, held by an inode with another name, changed by us since the LIST was asked, or
  the aim of a write of ours that is under way or whose answer was lost;
* all at once by their prefix: a renamed directory *claims* its old prefix until its children have been visited, whether
  we ever listed them or not (``Claims``). What others add there meanwhile shows when the move is done.

For a common prefix this is less simple: it stands for any number of objects. Finding nothing below it but objects in
motion proves there is no directory, and costs a request. So a prefix is a *suspect* only where something in motion lies
below it: normally nothing is. Up to ``SCAN_MAX`` records are searched for that; beyond, every unknown prefix is
verified.
"""

import logging
from collections.abc import Callable, Iterator

import trio

from gatewayfs.errors import GatewayError, StaleInode
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.reader import Reader
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh.own import OwnRequests
from gatewayfs.refresh.waiting import Requests
from gatewayfs.s3.store import ListPage, ObjectStore
from gatewayfs.types import ROOT_INO

log = logging.getLogger(__name__)

SCAN_MAX = 2000
"""Records looked at per page of unknown prefixes: some 6 ms. More than these in motion means busy days anyhow."""

SCAN_SLICE = 500
RESCAN_PAUSE_S = 1.0


class Claims:
    """Old prefixes of renamed directories whose children have not all been visited by the reconciler.

    Fed by ``note`` at each rename and by a walk over the queue at the start. When a claim turns out to be over, the
    directories below may still have theirs: it stays until another walk over the queue has found those. Too wide a
    claim only delays news.
    """

    def __init__(self, meta: MetaStore) -> None:
        self._meta = meta
        self._claims: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._outdated = trio.Event()

    def __repr__(self) -> str:
        return f"<Claims {self._claims}>"

    def note(self, ino: int) -> None:
        """The directory ``ino`` was renamed (nothing happens for other inodes)."""
        inode = self._meta.inode(ino)
        if inode is not None and (source := _claim(inode)):
            self._claims[source] = self._noted[source] = ino

    def below(self, prefix: str) -> bool:
        """Whether any claim is on something below ``prefix``."""
        return any(source.startswith(prefix) for source in self._claims)

    def on(self, reader: Reader, key: str, directory: int) -> bool:
        """Whether ``key``, found by listing ``directory``, belongs to a renamed directory elsewhere.

        The claim on the longest prefix decides: a directory may have been taken out of another before that was renamed.
        """
        source = max((source for source in self._claims if key.startswith(source)), key=len, default="")
        if not source:
            return False
        holder = self._claims[source]
        inode = reader.inode(holder)
        if inode is None or _claim(inode) != source:
            self._outdated.set()
        return not _is_below(reader, directory, holder)

    async def scan(self) -> None:
        """Find all claims in the queue."""
        self._outdated = trio.Event()
        self._noted = {}
        found: dict[str, int] = {}
        for count, (_, ino) in enumerate(self._meta.iter_dirty(), 1):
            inode = self._meta.inode(ino)
            if inode is not None and (source := _claim(inode)):
                found[source] = ino
            if count % SCAN_SLICE == 0:
                await trio.lowlevel.checkpoint()
        self._claims = found | self._noted

    async def run(self) -> None:
        """Scan again whenever a claim is outdated."""
        while True:
            await self._outdated.wait()
            try:
                await self.scan()
            except GatewayError:
                log.exception("could not look through the queue; the claims so far stay")
            await trio.sleep(RESCAN_PAUSE_S)


def _claim(inode: Inode) -> str:
    directory = inode.directory
    if directory is None or not directory.children_unsettled or not inode.linked:
        return ""
    return directory.source or ""


def _is_below(reader: Reader, ino: int, top: int) -> bool:
    """Whether ``ino`` is ``top`` or below it."""
    while ino not in (top, ROOT_INO, 0):
        inode = reader.inode(ino)
        if inode is None:
            return False
        ino = inode.parent
    return ino == top


class View:
    """Answers for one moment: use it without an await in between."""

    def __init__(self, own: OwnRequests, reader: Reader, mark: int) -> None:
        self._own = own
        self._reader = reader
        self._mark = mark
        self._attempted: set[str] | None = None

    def changed(self, key: str) -> bool:
        """Whether we changed the object at ``key`` since the request, so that its answer says nothing of it."""
        return self._own.changed(key, self._mark)

    def moves(self, key: str) -> bool:
        """Whether the object at ``key`` is one we delete or move, have just changed, or may have written."""
        reader = self._reader
        if self.changed(key) or reader.doomed(key) is not None or reader.holder(key) is not None:
            return True
        if self._attempted is None:
            # Writes under way, and those whose answers were lost: the object may be ours though nobody holds it yet.
            self._attempted = {attempt.key for _, state in reader.iter_uploads() for attempt in state.attempts}
        return key in self._attempted


class Motion:
    """Answers whether an object is in motion, and verifies prefixes."""

    def __init__(self, meta: MetaStore, store: ObjectStore, own: OwnRequests, requests: Requests) -> None:
        self.own = own
        self.claims = Claims(meta)
        self._meta = meta
        self._store = store
        self._requests = requests

    def view(self, reader: Reader, mark: int) -> "View":
        """What is in motion now; ``mark`` was taken before the request whose answer is judged by it."""
        return View(self.own, reader, mark)

    def suspects(self, tx: Reader, source: str, prefixes: set[str], mark: int) -> set[str]:
        """Which of ``prefixes`` (each one component below ``source``) may exist only because of objects in motion.

        ``tx`` is the transaction that will act on the answer.
        """
        noted = self.own.since(mark)
        if noted is None or self._meta.dirty_count + self._meta.doomed_count + len(noted) > SCAN_MAX:
            return prefixes
        found = {prefix for prefix in prefixes if self.claims.below(prefix)}
        for key in _keys_in_motion(tx, noted):
            if key.startswith(source):
                found.add(source + key[len(source) :].partition("/")[0] + "/")
        return found & prefixes

    async def verify(self, prefix: str, directory: int, until: Callable[[], float], then: Callable[[], None]) -> int:
        """Call ``then`` if anything below ``prefix`` is not in motion, in the same breath as that is found.

        Stops at the first such key. Returns the number of requests; raises StoreError.
        """
        token, requests = "", 0
        while True:
            with self.own.mark() as mark:
                page = await self._requests.send(self._page, prefix, token, until=until)
                requests += 1
                view = self.view(self._meta, mark)
                for row in page.objects:
                    if not view.moves(row.key) and not self.claims.on(self._meta, row.key, directory):
                        then()
                        return requests
            token = page.next_token
            if not token:
                return requests

    async def _page(self, prefix: str, token: str) -> ListPage:
        return await self._store.list_page(prefix, delimiter=False, token=token)


def _keys_in_motion(reader: Reader, noted: list[str]) -> Iterator[str]:
    yield from noted
    for doomed in reader.iter_doomed():
        yield doomed.key
    for _, state in reader.iter_uploads():
        for attempt in state.attempts:
            yield attempt.key
    for _, ino in reader.iter_dirty():
        inode = reader.inode(ino)
        if inode is not None and inode.remote is not None and _is_elsewhere(reader, inode, inode.remote.key):
            yield inode.remote.key


def _is_elsewhere(reader: Reader, inode: Inode, key: str) -> bool:
    """Whether an inode whose object lies at ``key`` has another name by now, or none."""
    try:
        return not inode.linked or reader.key_of(inode) != key
    except StaleInode:
        return True
