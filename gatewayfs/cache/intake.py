"""What comes into one live file from the bucket: each range on its way, and who waits for it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import trio

from gatewayfs.cache.extents import Extents
from gatewayfs.cache.known import ObjectCells
from gatewayfs.cache.readahead import ReadStreams
from gatewayfs.meta.schema import Remote

if TYPE_CHECKING:
    from gatewayfs.cache.live import Content


Admit = Callable[[int], AbstractAsyncContextManager[None]]


class Download:
    """One range on its way.

    Attributes:
        admit: around it: waits until so many bytes have room in the cache; raises NoRoom.
        ahead: nobody had asked for it when it began.
        waiters: readers who wait for it now.
        expected_bytes: how much has not arrived.
        unheard: it was demanded and its first byte has not come.
        error: why it ended, unless it succeeded or was given up; look at what is resident, either way.
    """

    def __init__(self, content: "Content", start: int, end: int, remote: Remote, admit: Admit, *, ahead: bool) -> None:
        self.content = content
        self.sparse = content.sparse
        self.start = start
        self.end = end
        self.remote = remote
        self.admit = admit
        self.ahead = ahead
        self.expected_bytes = end - start
        self.waiters = 0
        self.begun = self.finished = self.given_up = False
        self.unheard = False
        self.error: Exception | None = None
        self.scope = trio.CancelScope()
        self._news = trio.Event()

    def __repr__(self) -> str:
        state = "finished" if self.finished else "under way" if self.begun else "waiting"
        return f"<Download {self.start}..{self.end} of inode {self.content.ino}, {state}, {self.waiters} waiters>"

    async def wait(self) -> None:
        """Return when more of it is here, or it has ended. When the last waiter is cancelled, it ends too."""
        self.waiters += 1
        try:
            await self._news.wait()
        except trio.Cancelled:
            if self.waiters == 1:
                self.give_up()
            raise
        finally:
            self.waiters -= 1

    def wake(self) -> None:
        if self.waiters:
            news, self._news = self._news, trio.Event()
            news.set()

    def give_up(self) -> None:
        """End it soon; what has arrived stays."""
        self.given_up = True
        self.scope.cancel()


class Intake:
    """What comes into one live file: downloads, who reads it how, what was fetched ahead and is not read yet, and what
    is known of the object it comes from."""

    __slots__ = ("downloads", "known", "streams", "unread")

    def __init__(self, cell_bytes: int) -> None:
        self.known = ObjectCells(cell_bytes)
        self.downloads: list[Download] = []
        self.streams = ReadStreams()
        self.unread = Extents()

    def not_under_way(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of ``[start, end)`` that no download brings, in order."""
        free = Extents((start, end))
        for download in self.downloads:
            if not download.given_up:
                free.remove(download.start, download.end)
        return list(free)
