"""Who is busy with which bytes of one file.

A fetch writes bytes from the bucket into the cache file, a write puts the application's there, a truncation cuts them
off; each may be in a thread or waiting for the network. Two of them on overlapping ranges would leave a mixture, so
each holds its range here while it works and waits for overlapping ones first. Readers wait for writers only through
the extents: bytes are marked resident when they are there.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

END_OF_FILE = 1 << 62
"""Past any offset: a truncation holds everything from its size on."""


class RangeGate:
    """Exclusive byte ranges of one file; first come, first served."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[tuple[int, int, trio.Event]] = []

    def __bool__(self) -> bool:
        return bool(self._held)

    def blocker(self, start: int, end: int) -> trio.Event | None:
        """The event that fires when the first overlapping holder is done; None when the range is free."""
        for held_start, held_end, done in self._held:
            if held_start < end and start < held_end:
                return done
        return None

    @asynccontextmanager
    async def hold(self, start: int, end: int) -> AsyncIterator[None]:
        """Wait until nobody is busy with a byte of ``[start, end)``, then be it. A checkpoint only if it must wait."""
        while (done := self.blocker(start, end)) is not None:
            await done.wait()
        entry = (start, end, trio.Event())
        self._held.append(entry)
        try:
            yield
        finally:
            self._held.remove(entry)
            entry[2].set()


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
