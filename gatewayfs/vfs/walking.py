"""Programs that walk a tree (grep -r, tar, cp -r, ls -lR) meet the round trip once, not once per file.

Whoever opens two neighbours of a directory's small files to read them is taken for a reader in order, and the next ones
are fetched while it reads, in a window that doubles. Whoever goes from one directory to its next neighbour is taken for
a walker: the directories after that are listed ahead, and where it has read attributes or contents in the last one,
those of the next are fetched ahead as well. A program that reads a directory's names and at once goes down into one of
its first directories is a walker, too. Of a small file in a directory whose files are being read, one GET brings bytes
and attributes; of any other, a HEAD the attributes (``refresh/headpool.py``). Where the guess is wrong nothing further
is fetched.

What somebody waits for is never behind this: only so many files and listings are under way at a time, and whoever opens
a file that waits for its turn fetches it at once.
"""

import logging
import math
from collections import OrderedDict
from typing import TypeVar

import trio

from gatewayfs.cache.live import NoRoom
from gatewayfs.cache.wholefiles import Brought, BucketMovedOn
from gatewayfs.errors import GatewayError
from gatewayfs.meta.schema import Inode
from gatewayfs.refresh.ahead import BEGUN_S, NEIGHBOURS, ReadAhead
from gatewayfs.s3.store import ARCHIVE_CLASSES
from gatewayfs.vfs.share import Share

Value = TypeVar("Value")

log = logging.getLogger(__name__)

FILES_WINDOW = 64
"""Files fetched ahead in one directory: of 64 KiB at most, so 4 MiB, a thirtieth of a second at 1 Gbit/s."""

FILES_WAITING_MAX = 4 * FILES_WINDOW
"""With more readers than that the oldest wishes are dropped."""

LISTED_AHEAD = 8
"""Directories listed ahead: eight round trips of which the walker sees one."""

ATTRIBUTES_AHEAD = 3
CONTENTS_AHEAD = 1
"""Of these, how many have their attributes fetched, or small files too: the first is what the walker comes to next."""

REMEMBERED_MAX = 1024


class Walking:
    """Who walks where. ``nursery`` is set while ``run`` runs; before, nothing is fetched ahead."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._meta = share.meta
        self._files = ReadAhead(share.meta.children, FILES_WINDOW, trio.current_time)
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._under_way = 0
        self._coming: set[int] = set()  # under way, not opened since it began
        self._unopened: OrderedDict[int, None] = OrderedDict()  # here, not opened since
        self._entered: OrderedDict[int, int] = OrderedDict()  # directory -> its child that was read last
        self._entered_s: OrderedDict[int, float] = OrderedDict()  # directory -> when it was read from its beginning
        self._prepared: OrderedDict[int, None] = OrderedDict()
        self._listings = trio.CapacityLimiter(LISTED_AHEAD)
        self.nursery: trio.Nursery | None = None
        share.refresh.share_attributes(self._take)
        self.brought_files = self.used_files = 0
        """Files fetched ahead, and how many of them were opened since."""

    def __repr__(self) -> str:
        return f"<Walking {self._under_way} files under way, {len(self._waiting)} waiting>"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """What is fetched ahead lives here, for ever."""
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self.nursery = None

    def opened(self, inode: Inode) -> None:
        """A file was opened to be read. Returns at once."""
        if inode.ino in self._unopened:
            del self._unopened[inode.ino]
            self.used_files += 1
        self._coming.discard(inode.ino)
        self._waiting.pop(inode.ino, None)
        if self.nursery is None or not inode.parent or inode.size > self._share.cache.small_file_bytes:
            return
        self._wish(self._files.follow(inode.parent, inode.ino))

    def entered(self, ino: int) -> None:
        """A directory is read from its beginning. Returns at once."""
        directory = self._meta.inode(ino)
        if self.nursery is None or directory is None:
            return
        now_s, parent = trio.current_time(), directory.parent
        _remember(self._entered_s, ino, now_s)
        before = self._entered.get(parent, 0)
        _remember(self._entered, parent, ino)
        attributes, contents = self._share.refresh.reads_attributes(before), self._files.runs(before)
        if not contents:
            self._share.refresh.names_read(ino)
        went_down = before or now_s - self._entered_s.get(parent, -math.inf) <= BEGUN_S
        if not parent or not went_down or ino not in self._meta.children(parent, before, NEIGHBOURS):
            return
        following = [self._meta.inode(child) for child in self._meta.children(parent, ino, LISTED_AHEAD)]
        directories = [child.ino for child in following if child is not None and child.is_directory]
        for number, child in enumerate(directories):
            # Small files bring their attributes along: asked for further ahead, those would cost a request each.
            if number < (CONTENTS_AHEAD if contents else ATTRIBUTES_AHEAD if attributes else 0):
                self._prepare(child, attributes=attributes, contents=contents)
            elif child not in self._prepared:
                self._prepare(child, attributes=False, contents=False)

    # ------------------------------------------------------------------ inside

    def _prepare(self, ino: int, *, attributes: bool, contents: bool) -> None:
        assert self.nursery is not None
        _remember(self._prepared, ino, None)
        self.nursery.start_soon(self._list, ino, attributes, contents)

    async def _list(self, ino: int, attributes: bool, contents: bool) -> None:
        try:
            async with self._listings:
                await self._share.refresh.ensure_listed(ino)
            await self._share.refresh.ensure_attributes(ino, guessed=True)  # of its marker, where it has one
            if contents and not self._files.runs(ino):
                self._wish(self._files.expect(ino))
            if attributes and not self._share.refresh.reads_attributes(ino):
                self._share.refresh.expect_attributes(ino)
        except GatewayError as problem:
            log.debug("listing inode %d ahead: %s", ino, problem)  # who comes there is told
        except Exception:  # a bug costs this guess, not the mount
            log.exception("listing inode %d ahead failed", ino)

    def _take(self, parent: int, inos: list[int]) -> list[int]:
        """Files whose attributes will be asked for: where files are read, the bytes of small ones bring them along."""
        ahead = self._share.cache.ahead
        if self.nursery is None or ahead.limited or not ahead.files_max or not self._files.runs(parent):
            return inos  # without bytes, or at the pace of a limit, attributes are better asked for by themselves
        self._wish(inos)
        return [ino for ino in inos if ino not in self._waiting and ino not in self._coming]

    def _wish(self, inos: list[int]) -> None:
        for ino in inos:
            inode = self._meta.inode(ino)
            if inode is not None and ino not in self._coming and self._worth(inode):
                self._waiting[ino] = None
        while len(self._waiting) > FILES_WAITING_MAX:
            self._waiting.popitem(last=False)
        self._pump()

    def _worth(self, inode: Inode) -> bool:
        cache = self._share.cache
        if not inode.is_regular or inode.remote is None or inode.dirty_since_ns or inode.ino in self._unopened:
            return False
        if inode.remote.storage_class in ARCHIVE_CLASSES:
            return False  # refused, unless it was restored: whoever opens it is told
        if cache.open_count(inode.ino):
            return False  # too late
        return 0 < inode.size <= cache.small_file_bytes and not cache.is_resident(inode)

    def _pump(self) -> None:
        while self.nursery is not None and self._waiting and self._under_way < self._share.cache.ahead.files_max:
            ino, _ = self._waiting.popitem(last=False)
            self._under_way += 1
            self._coming.add(ino)
            self.nursery.start_soon(self._bring, ino)

    async def _bring(self, ino: int) -> None:
        try:
            # A listing cannot tell a file from a symlink; the attributes are those the walker's stat needs, too.
            given: Brought | None = None
            if not self._meta.require(ino).attributes_known:
                # (Nobody shall wait for a stat behind 64 KiB of a bandwidth limit.)
                whole = None if self._share.cache.ahead.limited else await self._share.refresh.read_small(ino)
                if whole is not None:
                    given = Brought(*whole)
                else:
                    await self._share.refresh.ensure_attributes(ino, guessed=True)
            inode = self._meta.require(ino)
            if self._worth(inode):
                await self._share.cache.bring(inode, given)
                self.brought_files += 1
                if ino in self._coming:
                    _remember(self._unopened, ino, None)
                else:
                    self.used_files += 1
        except (GatewayError, BucketMovedOn, NoRoom) as problem:
            log.debug("fetching inode %d ahead: %s", ino, problem)  # who opens it is told
        except Exception:  # a bug costs this guess, not the mount
            log.exception("fetching inode %d ahead failed", ino)
        finally:
            self._coming.discard(ino)
            self._under_way -= 1
            self._pump()


def _remember(table: OrderedDict[int, Value], ino: int, value: Value) -> None:
    table[ino] = value
    table.move_to_end(ino)
    if len(table) > REMEMBERED_MAX:
        table.popitem(last=False)
