"""Writers feel it when dirty bytes fill the cache: slower first, then ENOSPC, and never a byte lost.

    dirty bytes, of cache.dirty_max     0 ...... a half ........................... all
    a write                             at once │ slower and slower, to below the │ waits for uploads a while,
                                                │ rate of the uploads             │ then ENOSPC
    the queue                           settles │ settle times are skipped

Delays are paced for all writers together: each write takes its slot on one time line, so ten writers are as fast as
one. Only so many wait at a time, because each of them holds one of the FUSE side's requests; names and attributes are
never delayed. The same gate refuses writers when the cache is full of what must stay, or the disk (``cache.min_free``)
because of other programs: clean bytes go first.

``delay_s`` is the whole policy. [pure]
"""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import trio

from gatewayfs.cache.evicting import Evictor
from gatewayfs.cache.eviction import Hold
from gatewayfs.cache.live import Content
from gatewayfs.cache.room import Room
from gatewayfs.errors import NoSpace
from gatewayfs.meta.env import MetaStore

SOFT = 0.5
"""Below this share of the limit nobody is slowed: bursts are what a write-back cache is for."""

STEEPNESS = 1.5
"""At the limit writers get the uploads' rate divided by this, so the two meet at 91 % of the limit."""

RATE_MIN_BYTES_PER_S = 8 << 20
"""Assumed where nothing is being uploaded: being slower than this would not save a full cache, only annoy."""

DELAY_S_MAX = 1.0
"""Longest pause of one write: kernels send at most a MiB at a time."""

WRITERS_MAX = 24
"""Writers that may wait at once; with 64 readers waiting for the bucket they leave some of 99 requests free."""

PATIENCE_S, STALLED_S = 120.0, 3.0
"""At the limit a write waits so long at most while uploads are under way (a large file counts only when all of it has
arrived, and part copies of it take a while), and so long when none is."""

POLL_S = 0.1

HURRY_EVERY_S = 1.0
HURRY_ENTRIES = 1000
"""The oldest of the queue, looked at so often while writers are slowed: about 5 ms of the loop."""

OPEN_SHARE = 1 / 8
"""A file being written is uploaded early once so much of the limit is its: each time costs an object version."""


def delay_s(dirty_bytes: int, limit_bytes: float, length_bytes: int, upload_bytes_per_s: float) -> float:
    """How long a write of ``length_bytes`` should take when all writers are paced together."""
    fill = dirty_bytes / limit_bytes if limit_bytes else math.inf
    if fill <= SOFT:
        return 0.0
    pressure = min(1.0, (fill - SOFT) / (1.0 - SOFT))
    return STEEPNESS * pressure * pressure * length_bytes / max(upload_bytes_per_s, RATE_MIN_BYTES_PER_S)


class Pressure:
    """The gate writes pass.

    Args:
        live: files in use now.

    Attributes:
        upload_rate: bytes per second that reach the bucket just now; uploading: whether anything is on its way there.
        hurry: asks for these inodes to be uploaded without settling.
        refused: writes answered with ENOSPC.
        refusing: why the latest write was refused; "" once one was accepted.
    """

    def __init__(
        self,
        room: Room,
        evictor: Evictor,
        meta: MetaStore,
        live: Mapping[int, Content],
    ) -> None:
        self._room, self._evictor, self._meta, self._live = room, evictor, meta, live
        self.dirty_bytes_max = evictor.limits.dirty_bytes_max
        self.upload_rate: Callable[[], float] = float
        self.uploading: Callable[[], bool] = bool
        self.hurry: Callable[[Iterable[int]], None] = _nobody
        self.delayed_s = 0.0
        self.refused = 0
        self.refusing = ""
        self._waiting = 0
        self._slot_s = self._hurried_s = -math.inf

    def __repr__(self) -> str:
        return f"<Pressure {self.fill:.0%}, {self._waiting} writers wait>"

    @property
    def fill(self) -> float:
        """Dirty bytes as a share of what may be dirty."""
        return self._room.dirty_bytes / self.dirty_bytes_max

    async def admit(self, content: Content, offset: int, length_bytes: int) -> None:
        """Before a write: wait as long as it should. No checkpoint when nothing is to wait for.

        Raises NoSpace, with the reason: the write must not happen.
        """
        if self._adds_nothing(content, offset, offset + length_bytes):
            return
        try:
            if self._room.dirty_bytes > SOFT * self.dirty_bytes_max:
                await self._slow_down(length_bytes)
            if self._obstacle(length_bytes):
                await self._wait(length_bytes)
        except NoSpace as problem:
            self.refused += 1
            self.refusing = str(problem)
            raise
        self.refusing = ""

    def _adds_nothing(self, content: Content, start: int, end: int) -> bool:
        """Only dirty bytes are overwritten."""
        return content.hold is Hold.DIRTY and start >= content.clean_end and content.extents.covers(start, end)

    async def _slow_down(self, length_bytes: int) -> None:
        self._hurry()
        now_s = trio.current_time()
        wanted_s = delay_s(self._room.dirty_bytes, self.dirty_bytes_max, length_bytes, self.upload_rate())
        self._slot_s = min(max(self._slot_s, now_s) + wanted_s, now_s + DELAY_S_MAX)
        if self._slot_s - now_s < 0.001 or self._waiting >= WRITERS_MAX:
            return
        self._waiting += 1
        try:
            await trio.sleep(self._slot_s - now_s)
        finally:
            self._waiting -= 1
        self.delayed_s += trio.current_time() - now_s

    def _obstacle(self, length_bytes: int) -> str:
        """Why a write must not happen now; "" when it may."""
        dirty, limit = self._room.dirty_bytes, self.dirty_bytes_max
        if dirty + length_bytes > limit:
            return f"{dirty >> 20} MiB wait to be uploaded, of at most {int(limit) >> 20} MiB (cache.dirty_max)"
        return self._evictor.obstacle(length_bytes)

    async def _wait(self, length_bytes: int) -> None:
        """Until uploads or evictions have made room. Raises NoSpace when nothing gets done, or not enough."""
        if self._waiting >= WRITERS_MAX:
            raise NoSpace(self._obstacle(length_bytes))
        started_s = progress_s = now_s = trio.current_time()
        least = self._room.used_bytes + self._room.dirty_bytes
        self._waiting += 1
        try:
            while obstacle := self._obstacle(length_bytes):
                self._hurry()
                # Near the top of a small cache no watermark is passed, and still the next write does not fit.
                with self._evictor.wanted(length_bytes if self._evictor.lacks(length_bytes) else 0):
                    await trio.sleep(POLL_S)
                now_s = trio.current_time()
                if (now := self._room.used_bytes + self._room.dirty_bytes) < least:
                    least, progress_s = now, now_s
                sending = self._room.dirty_bytes > 0 and self.uploading()
                if (now_s - progress_s > STALLED_S and not sending) or now_s - started_s > PATIENCE_S:
                    raise NoSpace(obstacle)
        finally:
            self._waiting -= 1
            self.delayed_s += now_s - started_s

    def _hurry(self) -> None:
        """Files being written, and the oldest of the queue, go up without settling."""
        now_s = trio.current_time()
        if now_s - self._hurried_s < HURRY_EVERY_S:
            return
        self._hurried_s = now_s
        much = self.dirty_bytes_max * OPEN_SHARE
        being_written = [
            content.ino
            for content in self._live.values()
            if content.writers and content.hold is Hold.DIRTY and content.size - content.clean_end > much
        ]
        written = {content.ino for content in self._live.values() if content.writers}
        oldest = [ino for _, ino in islice(self._meta.iter_dirty(), HURRY_ENTRIES) if ino not in written]
        self.hurry([*being_written, *oldest])


def _nobody(_inos: Iterable[int]) -> None:
    """No uploader is there to hurry."""
