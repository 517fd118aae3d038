"""GETs that bring ranges of live files to the cache disk: under way, waiting for their turn, and who waits for them.

A download runs in the background and belongs to its file, not to a reader. Its bytes count as resident as they arrive,
so a reader goes on when *its* bytes are here, not at the end of an 8 MiB request. One absent byte has one download,
however many readers want it.

Two lanes. What somebody waits for begins at once. What is fetched *ahead* waits for a place, of which there are few,
and until little enough is under way; there are fewer places while a demanded request has not had its first byte or a
bandwidth limit is set. A reader who needs one that waits takes it along into the first lane. Whoever wants to write
into a range hurries its download, which then ends early and keeps what has arrived.
"""

import logging
from collections import deque
from collections.abc import Callable

import trio

from gatewayfs.cache.intake import Admit, Download
from gatewayfs.cache.live import Content, NoRoom
from gatewayfs.cache.room import Room
from gatewayfs.errors import GatewayError, Unavailable
from gatewayfs.meta.schema import Remote
from gatewayfs.s3.store import ObjectStore
from gatewayfs.types import ETag, ObjectKey

log = logging.getLogger(__name__)

AHEAD_WHILE_DEMANDED = 2
"""Read-ahead requests that may begin beside a demanded one that waits for its first byte: enough to keep a line of
1 Gbit/s and 20 ms busy, too few to fill it for long."""

AHEAD_WHILE_LIMITED = 1
"""The same under a bandwidth limit, where each request under way takes its share of it from the others."""


class Downloads:
    """All downloads of one cache. ``nursery`` is set while the cache runs; before, a download runs in its caller.

    Args:
        room: the cache's books.
        release: ``ContentCache``'s: a file is in use while something of it is on its way.
        ahead_max: read-ahead requests under way at a time.
        ahead_bytes_max: how much of them may be under way, what has arrived not counted; one may be larger.
        limited: whether a bandwidth limit is set on downloads.
    """

    def __init__(
        self,
        store: ObjectStore,
        room: Room,
        *,
        release: Callable[[Content], None],
        ahead_max: int,
        ahead_bytes_max: int,
        limited: Callable[[], bool],
    ) -> None:
        self._store = store
        self._room = room
        self._release = release
        self._ahead_max = ahead_max
        self._ahead_bytes_max = ahead_bytes_max
        self._limited = limited
        self._waiting: deque[Download] = deque()
        self._ahead_under_way = 0
        self._ahead_bytes_under_way = 0
        self._unheard = 0  # demanded ones without a first byte
        self.nursery: trio.Nursery | None = None
        self.fetched_bytes = 0
        self.fetches = 0
        self.ahead_bytes = 0

    def __repr__(self) -> str:
        return f"<Downloads {self._ahead_under_way} ahead under way, {len(self._waiting)} waiting>"

    @property
    def ahead_under_way(self) -> int:
        return self._ahead_under_way

    @staticmethod
    def covering(content: Content, offset: int) -> Download | None:
        """The download that brings the byte at ``offset``, waiting ones included."""
        for download in content.intake.downloads:
            if download.start <= offset < download.end and not download.given_up:
                return download
        return None

    async def demand(self, content: Content, start: int, end: int, remote: Remote, admit: Admit) -> Download:
        """Begin now to bring ``[start, end)``, of which nothing is on its way."""
        download = self._made(content, start, end, remote, admit, ahead=False)
        if self.nursery is None:
            download.begun = True
            await self._run(download)
        else:
            self._begin(download)
        return download

    def promote(self, download: Download) -> None:
        """Somebody waits for it: it waits no longer."""
        if not download.begun and not download.finished:
            self._waiting.remove(download)
            self._begin(download)

    def ahead(self, content: Content, start: int, end: int, remote: Remote, admit: Admit) -> None:
        """Bring ``[start, end)``, of which nothing is on its way, when there is a place."""
        if self.nursery is not None:
            self._waiting.append(self._made(content, start, end, remote, admit, ahead=True))
            self._pump()

    def give_up(self, content: Content, start: int, end: int) -> None:
        """Nobody is expected to read on there: end what nobody waits for."""
        for download in list(content.intake.downloads):
            wanted = download.waiters or not (download.start < end and start < download.end)
            if not wanted and not download.finished:
                download.give_up()
                if not download.begun:
                    self._waiting.remove(download)
                    self._finish(download)

    @staticmethod
    def _made(content: Content, start: int, end: int, remote: Remote, admit: Admit, *, ahead: bool) -> Download:
        download = Download(content, start, end, remote, admit, ahead=ahead)
        content.intake.downloads.append(download)
        content.users += 1
        return download

    def _pump(self) -> None:
        while self.nursery is not None and self._waiting and self._may_begin(self._waiting[0]):
            self._begin(self._waiting.popleft())

    def _may_begin(self, download: Download) -> bool:
        if self._ahead_under_way >= self._places():
            return False
        under_way_bytes = self._ahead_bytes_under_way
        return not under_way_bytes or under_way_bytes + download.expected_bytes <= self._ahead_bytes_max

    def _places(self) -> int:
        places = self._ahead_max
        if self._limited():
            places = min(places, AHEAD_WHILE_LIMITED)
        return min(places, AHEAD_WHILE_DEMANDED) if self._unheard else places

    def _begin(self, download: Download) -> None:
        assert self.nursery is not None
        download.begun = True
        if download.ahead:
            self._ahead_under_way += 1
            self._ahead_bytes_under_way += download.expected_bytes
        else:
            download.unheard = True
            self._unheard += 1
        self.nursery.start_soon(self._run_counted, download)

    async def _run_counted(self, download: Download) -> None:
        try:
            await self._run(download)
        finally:
            if download.ahead:
                self._ahead_under_way -= 1
                self._ahead_bytes_under_way -= download.expected_bytes
            self._heard(download)
            self._pump()

    def _heard(self, download: Download) -> None:
        if download.unheard:
            download.unheard = False
            self._unheard -= 1

    async def _run(self, download: Download) -> None:
        try:
            with download.scope:
                # A reader who meets it given up asks anew, so whoever needs the range may have it at any time.
                async with (
                    download.admit(download.end - download.start),
                    download.content.gate.hold(download.start, download.end, download.give_up),
                ):
                    await self._bring(download)
        except (GatewayError, NoRoom) as problem:
            download.error = problem
        except Exception as problem:  # a bug costs the readers of this range, not the mount
            log.exception("bringing %r failed", download)
            download.error = Unavailable(f"internal error: {problem!r}")
        finally:
            self._finish(download)

    async def _bring(self, download: Download) -> None:
        content, remote, sparse = download.content, download.remote, download.sparse
        for start, end in sparse.extents.missing(download.start, min(download.end, content.size)):
            if content.sparse is not sparse or content.stale:
                return  # truncated to nothing and started over, or replaced in the bucket
            sparse.open()
            self.fetches += 1
            arrival = _Arrival(self, download, start)
            passing = content.intake.known.passing(remote, start)
            try:
                await self._store.fetch(
                    ObjectKey(remote.key),
                    start,
                    end - start,
                    str(sparse.path),
                    start,
                    if_match=ETag(remote.etag) if remote.etag else None,
                    # Without an etag two tries could bring bytes of two objects: only a whole one counts.
                    progress=arrival if remote.etag else None,
                    passing=passing,
                )
                arrival(end - start)
            finally:
                if passing is not None:
                    content.intake.known.learn(remote, passing.whole(arrival.reached))
                # Booked at the end: until then ``admit`` keeps the room for all of it. What nobody has read yet is the
                # first to go.
                if content.sparse is sparse:
                    self._room.follow(content, start, arrival.reached, cold=download.ahead and not download.waiters)

    def arrived(self, download: Download, start: int, end: int) -> None:
        """``[start, end)`` is in the cache file."""
        content = download.content
        if content.sparse is not download.sparse:
            return
        download.expected_bytes -= end - start
        if download.ahead:
            self._ahead_bytes_under_way -= end - start
        self._heard(download)
        self._pump()
        self.fetched_bytes += end - start
        content.sparse.fill(start, end)
        content.residence_changed = True
        if download.ahead:
            self.ahead_bytes += end - start
            content.intake.unread.add(start, end)
        download.wake()

    def _finish(self, download: Download) -> None:
        download.finished = True
        download.content.intake.downloads.remove(download)
        download.wake()
        self._release(download.content)


class _Arrival:
    """Progress of one GET: how much of it is in the file. A repeated GET begins again with bytes that were here."""

    __slots__ = ("_download", "_downloads", "_start", "reached")

    def __init__(self, downloads: Downloads, download: Download, start: int) -> None:
        self._downloads = downloads
        self._download = download
        self._start = start
        self.reached = start

    def __call__(self, length_bytes: int) -> None:
        now = self._start + length_bytes
        if now > self.reached:
            self._downloads.arrived(self._download, self.reached, now)
            self.reached = now
