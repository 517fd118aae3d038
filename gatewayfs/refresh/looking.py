"""Looking again at single keys of the bucket, because somebody says that they changed.

Whoever says so (a notice from a queue, a program on this machine) is not believed: notices come late, twice, in another
order, and anybody may have written them. They only say where to look. What the bucket answers *now* decides, brought
into the records as a refresh would: a local change stays and becomes the upload's conflict, open files keep their
bytes, the kernel hears of it.

A file costs one HEAD. A key that ends with "/" costs one LIST of one key: it says whether the directory has a marker,
or anything at all. What nothing here depends on costs nothing (``places.py``), nor does what we did ourselves
(``echoes.py``). When the last entry of a directory without a marker goes, one LIST tells whether the directory does.

What is answered for a key is the latest word on it: other answers that were asked for earlier and arrive later are
ignored (``own.py``), and one key is looked at by one task at a time.
"""

import enum
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from gatewayfs.errors import ObjectNotFound, StaleInode
from gatewayfs.refresh import markers
from gatewayfs.refresh.answers import Answers
from gatewayfs.refresh.apply import Applier, SourceMoved
from gatewayfs.refresh.echoes import Echoes
from gatewayfs.refresh.listing import Lister
from gatewayfs.refresh.listingpass import ListingPass
from gatewayfs.refresh.notices import Notice
from gatewayfs.refresh.places import Kind, Place, Places
from gatewayfs.refresh.removal import remove_tree
from gatewayfs.refresh.waiting import Requests, Shared
from gatewayfs.s3.store import ListPage, ObjectInfo, ObjectStore
from gatewayfs.types import ROOT_INO, ObjectKey

T = TypeVar("T")

LOOKS_MAX = 8
"""At a time, however many keys are said to have changed. At 20 ms that is 400 a second, with a third of a CPU."""

VERIFY_S = 30.0
"""How long finding out whether a new directory is more than objects in motion may take."""


class Outcome(enum.Enum):
    """What came of a look."""

    LOOKED = enum.auto()
    """The bucket was asked, and the records say what it answered."""
    NOTHING = enum.auto()
    """Nothing here depends on this key, or it is known, or the upload will see to it."""
    ODD = enum.auto()
    """The key is not below the share's prefix, or not even the first of its names can be one."""
    BUSY = enum.auto()
    """A write of ours at this key is under way, or its answer was lost: look again in a moment."""
    MOVING = enum.auto()
    """The key's directory was made or moved here and is not settled; or its object is about to be deleted."""


Look = Callable[[Notice], Awaitable[Outcome]]
"""``Refresh.look_again``, to those who get notices."""


_UNASKED = {
    Kind.NOTHING: Outcome.NOTHING,
    Kind.BUSY: Outcome.BUSY,
    Kind.MOVING: Outcome.MOVING,
}


class Looking:
    """Looks at keys of one share again."""

    def __init__(self, applier: Applier, lister: Lister, store: ObjectStore, requests: Requests) -> None:
        self._applier = applier
        self._meta = applier.meta
        self._own = applier.own
        self._lister = lister
        self._store = store
        self._requests = requests
        self._answers = Answers(applier)
        self._places = Places(applier, lister)
        self._limit = trio.CapacityLimiter(LOOKS_MAX)
        self._under_way: dict[str, trio.Event] = {}
        self.echoes = Echoes()
        self.requests = 0

    async def look_again(self, notice: Notice) -> Outcome:
        """Bring what the bucket has at ``notice.key`` now into the records, or what it has not.

        Raises:
            StoreError: the bucket does not answer, or refuses; what the records say is as it was.
        """
        key = self._places.visible(notice.key)
        if key is None:
            return Outcome.ODD
        while (other := self._under_way.get(key)) is not None:
            await other.wait()  # its answer may be older than this notice
        done = self._under_way[key] = trio.Event()
        try:
            place = self._places.find(key)
            if place.kind is Kind.NOTHING and place.ino and notice.gone:
                async with self._limit:
                    await self._emptied(place.ino)  # it is shown itself, for what may have been the last key below it
            if place.kind in _UNASKED:
                return _UNASKED[place.kind]
            if (place.kind is Kind.NEW and notice.gone) or self._is_echo(notice, place):
                return Outcome.NOTHING
            async with self._limit:
                return await self._look(key)
        except (SourceMoved, StaleInode):
            return Outcome.BUSY  # renamed or removed here meanwhile
        finally:
            del self._under_way[key]
            done.set()

    def _is_echo(self, notice: Notice, place: Place) -> bool:
        if notice.gone or not notice.etag or place.kind is Kind.NEW:
            return False
        remote = self._meta.require(place.ino).remote
        known = remote is not None and (remote.key, remote.etag) == (notice.key, notice.etag)
        return known and self.echoes.is_ours(notice.key)

    async def _look(self, key: str) -> Outcome:
        if key.endswith("/"):
            return await self._below(key)
        with self._own.mark() as mark:
            self.requests += 1
            info: ObjectInfo | None = None
            try:
                info = await self._send(lambda: self._store.head(ObjectKey(key)))
            except ObjectNotFound:
                pass
            place = self._places.find(key)
            if self._own.changed(key, mark) or place.kind in (Kind.BUSY, Kind.MOVING):
                return Outcome.BUSY
            before = self._meta.require(place.ino).parent if place.kind is Kind.FILE else 0
            if place.kind is Kind.FILE:
                self._answers.apply(place.ino, key, info, mark)
            elif place.kind is Kind.NEW and info is not None:
                await self._appeared(place, info, mark)
            self._own.note(key)
        if info is None and before:
            await self._emptied(before)
        return Outcome.LOOKED

    async def _appeared(self, place: Place, info: ObjectInfo, mark: int) -> None:
        walk = self._pass(place.ino, place.source, mark)
        if not place.prefix:
            self._applier.found(walk, place.name, info, mark)
        else:
            await self._directory_appeared(walk, place, mark)

    async def _directory_appeared(self, walk: ListingPass, place: Place, mark: int) -> None:
        doubtful = self._applier.prefixes(walk, [(place.name, place.prefix)], mark)
        if doubtful:
            work = Shared()
            work.want(trio.current_time() + VERIFY_S)
            await self._lister.verify(walk, doubtful, work)
            self.requests += walk.tally.lists

    # ------------------------------------------------------------------ directories

    async def _below(self, prefix: str) -> Outcome:
        """The first key at or below a directory's prefix says everything about it."""
        with self._own.mark() as mark:
            self.requests += 1
            page = await self._send(lambda: self._first_below(prefix))
            first = page.objects[0] if page.objects else None
            place = self._places.find(prefix)
            if self._own.changed(prefix, mark) or place.kind in (Kind.BUSY, Kind.MOVING):
                return Outcome.BUSY
            gone = False
            if place.kind is Kind.NEW and first is not None:
                await self._directory_appeared(self._pass(place.ino, place.source, mark), place, mark)
            elif place.kind is Kind.DIRECTORY and first is not None and first.key == prefix:
                markers.found(self._applier, self._pass(place.ino, prefix, mark), first, mark)
            elif place.kind is Kind.DIRECTORY and (first is not None or place.ino == ROOT_INO):
                markers.lost(self._applier, self._pass(place.ino, prefix, mark))
            elif place.kind is Kind.DIRECTORY:
                gone = await self._vanished(place.ino, prefix, mark)
            self._own.note(prefix)
        if gone:
            await self._after(prefix[:-1])
        return Outcome.LOOKED

    async def _vanished(self, ino: int, prefix: str, mark: int) -> bool:
        """Nothing is below the prefix any more. Returns whether the directory went; what was made here keeps it."""
        parent = self._meta.require(self._meta.require(ino).parent)
        assert parent.directory is not None
        walk = self._pass(parent.ino, parent.directory.source or "", mark)
        await remove_tree(self._applier, walk, ino, prefix)
        inode = self._meta.inode(ino)
        return inode is None or not inode.linked

    async def _after(self, key: str) -> None:
        """The directory at ``key`` went: it may have hidden a file, or been all there was of the one above it."""
        with self._own.mark() as mark:
            place = self._places.find(key)
            if place.kind is Kind.NEW and not place.prefix:
                self.requests += 1
                try:
                    info = await self._send(lambda: self._store.head(ObjectKey(key)))
                except ObjectNotFound:
                    pass
                else:
                    if self._places.find(key) == place:
                        self._applier.found(self._pass(place.ino, place.source, mark), place.name, info, mark)
        if place.kind is Kind.NEW:
            await self._emptied(place.ino)

    async def _emptied(self, ino: int) -> None:
        """An entry of a directory went. Without a marker it was there for what is below it: is there anything left?"""
        inode = self._meta.inode(ino)
        if inode is None or inode.directory is None or ino == ROOT_INO or not inode.linked or inode.dirty_since_ns:
            return
        source = inode.directory.source
        if source is not None and inode.remote is None and not self._meta.has_children(ino):
            await self._below(source)

    # ------------------------------------------------------------------ small parts

    def _pass(self, ino: int, source: str, mark: int) -> ListingPass:
        """To apply single rows with: what appears is told to the kernel, and counts as a change of the directory."""
        return ListingPass(ino, source, renewing=True, recursive=False, mark=mark, seen=None, tell=True)

    async def _first_below(self, prefix: str) -> ListPage:
        return await self._store.list_page(prefix, delimiter=False, max_keys=1)

    async def _send(self, request: Callable[[], Awaitable[T]]) -> T:
        """Once: whoever asked for the look decides when to try again."""
        return await self._requests.send(request, until=lambda: 0.0)
