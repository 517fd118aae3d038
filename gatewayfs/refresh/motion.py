"""Telling what appeared in the bucket from what is only on its way out.

After ``rm -r d`` or ``mv d e`` the objects of ``d/`` stay in the bucket until the reconciler has deleted or moved them,
and every LIST shows them. They are known, so they are never taken for news:

* one by one by their keys: doomed, held by an inode with another name or (while it is open) with none, changed by us
  since the LIST was asked, or the aim of a write of ours that is under way or whose answer was lost;
* all at once by their prefix: a renamed directory *claims* its old prefix until its children have been visited, whether
  we ever listed them or not (``Claims``). What others add there meanwhile shows when the move is done.

For a common prefix this is less simple: it stands for any number of objects. Finding nothing below it but objects in
motion proves there is no directory, and costs a request. So a prefix is a *suspect* only where something in motion lies
below it: normally nothing is. Up to ``SCAN_MAX`` records are searched for that; beyond, every unknown prefix is
verified.
"""

from collections.abc import Callable, Iterator

import trio

from gatewayfs.errors import StaleInode
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.reader import Reader
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh.own import OwnRequests
from gatewayfs.refresh.waiting import Requests
from gatewayfs.s3.store import ListPage, ObjectStore
from gatewayfs.types import ROOT_INO

SCAN_MAX = 2000
"""Records looked at per page of unknown prefixes: some 6 ms. More than these in motion means busy days anyhow."""

SCAN_SLICE = 500

TIDY_MIN = 1000
"""Claims that are over go when somebody asks for them, or when so many have gathered (some 5 ms of looking)."""


class Claims:
    """Old prefixes of renamed directories whose children have not all been visited by the reconciler.

    Found in the queue at the start; from then on whoever marks a directory ``children_unsettled`` says so (``note``).
    When a directory was visited its claim is over, and those below it have theirs. A claim is also a promise to its
    holder: nobody else writes there before it is over (``claimant``), so whatever lies there is the holder's.
    """

    def __init__(self, meta: MetaStore) -> None:
        self._meta = meta
        self._claims: dict[str, int] = {}
        self._tidy_at = TIDY_MIN

    def __repr__(self) -> str:
        return f"<Claims {self._claims}>"

    def note(self, ino: int) -> None:
        """The directory ``ino`` was renamed, or one above it (nothing happens for other inodes)."""
        inode = self._meta.inode(ino)
        if inode is not None and (source := _claim(inode)):
            self._claims[source] = ino
        if len(self._claims) >= self._tidy_at:
            self._claims = {source: ino for source, ino in self._claims.items() if self._holds(ino, source)}
            self._tidy_at = max(TIDY_MIN, 2 * len(self._claims))

    def _holds(self, ino: int, source: str) -> bool:
        inode = self._meta.inode(ino)
        return inode is not None and _claim(inode) == source

    def children(self, source: str) -> set[str]:
        """Of the prefixes one component below ``source``: those with a claim on them or on something below."""
        start = len(source)
        return {
            source + claim[start:].partition("/")[0] + "/"
            for claim in self._claims
            if claim.startswith(source) and claim != source
        }

    def claimant(self, reader: Reader, key: str, directory: int) -> int:
        """The renamed directory that ``key``, wanted or found by ``directory``, belongs to; 0 if to none elsewhere.

        The claim on the longest prefix decides: a directory may have been taken out of another before that was renamed.
        """
        end = len(key)
        while (end := key.rfind("/", 0, end)) >= 0:
            holder = self._claims.get(source := key[: end + 1])
            if holder is None:
                continue
            if self._holds(holder, source):
                return 0 if _is_below(reader, directory, holder) else holder
            del self._claims[source]
        return 0

    async def scan(self) -> None:
        """Find all claims in the queue."""
        for count, (_, ino) in enumerate(self._meta.iter_dirty(), 1):
            self.note(ino)
            if count % SCAN_SLICE == 0:
                await trio.lowlevel.checkpoint()


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

    def moves(self, key: str, etag: str) -> bool:
        """Whether the object at ``key`` is one we delete or move, have just changed, or may have written.

        Args:
            etag: of what was found there.
        """
        reader = self._reader
        if self.changed(key) or reader.doomed(key) is not None:
            return True
        holder = reader.holder(key)
        if holder is not None and (holder.linked or holder.remote is None or holder.remote.etag in ("", etag)):
            return True  # (with another etag, what a removed file that is still open was read from is gone)
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
        meta = self._meta
        if noted is None or meta.dirty_count + meta.doomed_count + meta.orphan_count + len(noted) > SCAN_MAX:
            return prefixes
        found = self.claims.children(source)
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
                    if not view.moves(row.key, row.etag) and not self.claims.claimant(self._meta, row.key, directory):
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
    for ino in reader.iter_orphans():
        # Removed here and still open: the object stays while somebody may read from it.
        orphan = reader.inode(ino)
        if orphan is not None and orphan.remote is not None:
            yield orphan.remote.key
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
