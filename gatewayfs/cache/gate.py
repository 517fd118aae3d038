"""Who is busy with which bytes of one file.

A fetch writes bytes from the bucket into the cache file, a write puts the application's there, a truncation cuts them
off; each may be in a thread or waiting for the network. Two of them on overlapping ranges would leave a mixture, so
each holds its range here while it works and waits for overlapping ones first. Readers wait for writers only through
the extents: bytes are marked resident when they are there.

Who may hold a range for long without need, as a read-ahead does, says how to be hurried (``give_way``).
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

END_OF_FILE = 1 << 62
"""Past any offset: a truncation holds everything from its size on."""


class RangeGate:
    """Exclusive byte ranges of one file; first come, first served."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[tuple[int, int, trio.Event, Callable[[], None] | None]] = []

    def __bool__(self) -> bool:
        return bool(self._held)

    def blocker(self, start: int, end: int) -> trio.Event | None:
        """The event that fires when the first overlapping holder is done; None when the range is free."""
        for held_start, held_end, done, _ in self._held:
            if held_start < end and start < held_end:
                return done
        return None

    def hurry(self, start: int, end: int) -> None:
        """Ask the holders of ``[start, end)`` to let go, those that can."""
        for held_start, held_end, _, give_way in list(self._held):
            if held_start < end and start < held_end and give_way is not None:
                give_way()

    @asynccontextmanager
    async def hold(self, start: int, end: int, give_way: Callable[[], None] | None = None) -> AsyncIterator[None]:
        """Wait until nobody is busy with a byte of ``[start, end)``, then be it. A checkpoint only if it must wait.

        Args:
            give_way: called when somebody waits for (some of) the range; to let go of it soon is all it may do.
        """
        while (done := self.blocker(start, end)) is not None:
            self.hurry(start, end)
            await done.wait()
        give_back = self.take(start, end, give_way)
        try:
            yield
        finally:
            give_back()

    def take(self, start: int, end: int, give_way: Callable[[], None] | None = None) -> Callable[[], None]:
        """``hold`` for who cannot wait: the range must be free. Call the result when done."""
        entry = (start, end, trio.Event(), give_way)
        self._held.append(entry)

        def give_back() -> None:
            self._held.remove(entry)
            entry[2].set()

        return give_back


class Readers:
    """Who wants which bytes just now, and may be reading them in a thread: they must not be given back meanwhile."""

    __slots__ = ("_busy",)

    def __init__(self) -> None:
        self._busy: list[tuple[int, int]] = []

    @contextmanager
    def reading(self, start: int, end: int) -> Iterator[None]:
        """Around a read of ``[start, end)``, the wait for absent bytes included."""
        entry = (start, end)
        self._busy.append(entry)
        try:
            yield
        finally:
            self._busy.remove(entry)

    def busy(self, start: int, end: int) -> bool:
        """Whether anybody wants a byte of ``[start, end)``."""
        return any(busy_start < end and start < busy_end for busy_start, busy_end in self._busy)


class at_once:
    """``async with`` a trio.Lock without a checkpoint when it is free: most calls find it so."""

    __slots__ = ("_lock",)

    def __init__(self, lock: trio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
