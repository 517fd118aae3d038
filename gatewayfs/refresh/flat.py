"""A whole tree compared with one stream of LISTs.

A LIST per directory is dear where directories are small: a tree of 20,000 directories with 50 files each takes 20,000
of them, and a million keys in a row take 1,000. A LIST without delimiter shows all keys below a prefix in order, so
those of one directory lie together but for its subtrees: a stack of directories, from the top to where the stream is,
takes it apart again. Each directory on it is a walk like any other (``listing.py``), opened when its first key comes,
swept and finished when the stream has left it.

Not compared here, only passed through, are directories that need no comparing or cannot have it: done already, listed
by somebody else just now, not listed as a whole before, or open where an interrupted stream begins again. All but the
first are in ``left``: they need a listing of their own. Trees that are not known here are jumped over.
"""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVarTuple

import trio

from gatewayfs.errors import GatewayError, NotADirectory, StaleInode, Unavailable
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh import markers
from gatewayfs.refresh.apply import Applier, SourceMoved
from gatewayfs.refresh.diff import name_of
from gatewayfs.refresh.listing import Lister
from gatewayfs.refresh.listingpass import Walk
from gatewayfs.refresh.removal import SLICE, sweep
from gatewayfs.refresh.settings import RefreshProgress, RefreshSettings
from gatewayfs.refresh.waiting import Requests
from gatewayfs.s3.store import ListedObject, ListPage
from gatewayfs.types import KEY_BYTES_MAX

Ts = TypeVarTuple("Ts")

LAST = "\U0010ffff"
"""Sorts behind every character that keys have."""


class Unordered(GatewayError):
    """The store does not list in key order (S3 Express): its stream cannot be taken apart."""


@dataclass(slots=True, eq=False)
class _Place:
    """A directory the stream is in.

    Attributes:
        walk: None where it is only passed through.
        held: the mark its answers are judged by.
    """

    ino: int
    source: str
    walk: Walk | None
    held: ExitStack


class FlatWalk:
    """One stream.

    Args:
        is_done: whether a directory needs no comparing.
        progress: where it counts, and keeps its position.

    Attributes:
        left: directories on the way that need a listing of their own.
    """

    def __init__(
        self,
        applier: Applier,
        lister: Lister,
        requests: Requests,
        settings: RefreshSettings,
        progress: RefreshProgress,
        is_done: Callable[[Inode], bool],
    ) -> None:
        self._applier = applier
        self._meta = applier.meta
        self._lister = lister
        self._requests = requests
        self._progress = progress
        self._is_done = is_done
        self._deadline_s = settings.deadline_s
        self._stack: list[_Place] = []
        self._rows: list[ListedObject] = []
        self._skipping = ""
        self._last = ""
        self.left: list[int] = []

    def __repr__(self) -> str:
        return f"<FlatWalk at {self._last!r}, {len(self._stack)} deep>"

    async def run(self, top: int) -> None:
        """Compare everything at and below the directory ``top``.

        Raises StoreError, Unordered: what was shown by then is applied, and the rest can be gone on with.
        """
        inode = self._meta.inode(top)
        if inode is None or inode.directory is None or inode.directory.source is None:
            self.left.append(top)
            return
        source, kept = inode.directory.source, str(top)
        try:
            start_after = self._progress.positions.get(kept, "")
            if not start_after.startswith(source):
                start_after = ""
            await self._stream(top, source, start_after, kept)
            while self._stack:
                await self._leave()
            self._progress.positions.pop(kept, None)
        finally:
            for place in self._stack:
                self._end(place, Unavailable("the refresh was interrupted"))

    async def _stream(self, top: int, source: str, start_after: str, kept: str) -> None:
        token = ""
        begun = False
        while True:
            with self._applier.own.mark() as mark:
                until = trio.current_time() + self._deadline_s
                page = await self._requests.send(self._lister.keys, source, token, start_after, until=lambda: until)  # noqa: B023
                self._progress.tally.lists += 1
                if not begun:
                    self._begin(top, source, start_after, mark)
                    begun = True
                await self._take(page, mark)
            if not page.next_token:
                return
            self._progress.positions[kept] = self._last
            token, start_after = page.next_token, ""
            jump = self._skipping + LAST
            if self._skipping and jump > self._last and len(jump.encode()) <= KEY_BYTES_MAX:
                token, start_after, self._skipping = "", jump, ""

    def _begin(self, top: int, source: str, start_after: str, mark: int) -> None:
        """Enter the top, and all directories that are open where an interrupted stream begins again."""
        self._enter(top, source, mark, whole=not start_after)
        self._last = start_after
        for component in start_after[len(source) :].split("/")[:-1]:
            place = self._stack[-1]
            prefix = f"{place.source}{component}/"
            child = self._known(place.ino, component, prefix)
            if child is None:
                self._skipping = prefix
                return
            self._enter(child.ino, prefix, mark, whole=False)

    # ----------------------------------------------------------------- taking a page apart

    async def _take(self, page: ListPage, mark: int) -> None:
        for row in page.objects:
            if row.key < self._last:
                raise Unordered(f"{row.key!r} is listed after {self._last!r}")
            self._last = row.key
            if self._skipping:
                if row.key.startswith(self._skipping):
                    continue
                self._skipping = ""
            while not row.key.startswith(self._stack[-1].source):
                await self._apply(mark)
                await self._leave()
            await self._descend(row.key, mark)
            if not self._skipping:
                self._rows.append(row)
                if len(self._rows) >= SLICE:
                    await self._apply(mark)
        await self._apply(mark)
        for place in self._stack:
            if place.walk is not None:
                place.walk.pages += 1
                place.walk.wake()

    async def _descend(self, key: str, mark: int) -> None:
        """Enter the directories between where the stream is and ``key``, or begin to skip the first unknown one."""
        while True:
            place = self._stack[-1]
            component, slash, _ = key[len(place.source) :].partition("/")
            if not slash:
                return
            await self._apply(mark)
            prefix = f"{place.source}{component}/"
            await self._guarded(place, self._show_prefix, place, component, prefix, mark)
            child = self._known(place.ino, component, prefix)
            if child is None:
                self._skipping = prefix
                return
            self._enter(child.ino, prefix, mark, whole=True)
            await trio.lowlevel.checkpoint()

    async def _show_prefix(self, place: _Place, component: str, prefix: str, mark: int) -> None:
        assert place.walk is not None
        current = place.walk.current
        assert current is not None
        name = name_of(component)
        if name is None:
            self._applier.strange(current, [prefix])
        elif (child := self._known(place.ino, component, prefix)) is not None:
            # What ``prefixes`` would find out, without a transaction.
            current.saw(child.ino)
            current.tally.names += 1
        elif doubtful := self._applier.prefixes(current, [(name, prefix)], mark):
            place.walk.want(trio.current_time() + self._deadline_s)
            await self._lister.verify(current, doubtful, place.walk)

    async def _apply(self, mark: int) -> None:
        """Bring the gathered rows, all of the directory the stream is in, into the records."""
        rows, self._rows = self._rows, []
        if rows:
            await self._guarded(self._stack[-1], self._show_rows, self._stack[-1], rows, mark)
            await trio.lowlevel.checkpoint()

    async def _show_rows(self, place: _Place, rows: list[ListedObject], mark: int) -> None:
        assert place.walk is not None
        current = place.walk.current
        assert current is not None
        files: list[tuple[bytes, ListedObject]] = []
        for row in rows:
            if row.key == place.source:
                markers.found(self._applier, current, row, mark)
            elif (name := name_of(row.key[len(place.source) :])) is not None:
                files.append((name, row))
            else:
                self._applier.strange(current, [row.key])
        if files:
            self._applier.objects(current, files, mark)
        current.advance(rows[0].key, rows[-1].key)

    # ----------------------------------------------------------------- the stack

    def _known(self, parent: int, component: str, prefix: str) -> Inode | None:
        """The directory of that name if it was listed from ``prefix`` before."""
        name = name_of(component)
        child = self._meta.lookup(parent, name) if name is not None else None
        if child is None or child.directory is None or child.directory.source != prefix:
            return None
        return child if child.directory.complete or self._meta.has_children(child.ino) else None

    def _enter(self, ino: int, source: str, mark: int, *, whole: bool) -> None:
        """``whole``: all of its keys are still to come."""
        place = _Place(ino, source, None, ExitStack())
        inode = self._meta.require(ino)
        if not self._is_done(inode):
            if whole and inode.directory is not None and inode.directory.complete:
                place.held.enter_context(self._applier.own.hold(mark))
                place.walk = self._lister.open_walk(ino, source, mark)
            if place.walk is None:
                self.left.append(ino)
        self._stack.append(place)

    async def _leave(self) -> None:
        """All keys of the innermost directory have come."""
        place = self._stack[-1]
        await self._guarded(place, self._finish, place)
        self._stack.pop()
        self._end(place, None)

    async def _finish(self, place: _Place) -> None:
        assert place.walk is not None
        current = place.walk.current
        assert current is not None
        await sweep(self._applier, current)
        markers.finish(self._applier, current)
        self._progress.listed += 1

    async def _guarded(self, place: _Place, act: Callable[[*Ts], Awaitable[None]], *arguments: *Ts) -> None:
        """Do something for a directory that is compared; if it was moved or removed meanwhile, pass through it."""
        if place.walk is None:
            return
        try:
            await act(*arguments)
        except (StaleInode, SourceMoved, NotADirectory) as problem:
            self.left.append(place.ino)
            self._end(place, problem)

    def _end(self, place: _Place, error: GatewayError | None) -> None:
        walk, place.walk = place.walk, None
        if walk is not None:
            if walk.current is not None:
                self._progress.tally.add(walk.current.tally)
            self._lister.close_walk(walk, error)
        place.held.close()
