"""The scrub: everything in the cache is read from the disk now and then, and compared with what is known of it.

Damage that nobody reads grows: the second copy is deleted in the bucket, the last good backup is rotated away, and the
file that waits for a bucket out of reach was damaged hours ago. So a walk over all records goes on behind everything
else: at a few MiB per second (``cache.scrub_rate``), in turns with the programs, once per ``cache.scrub_interval``. It
goes on where it was after a restart. It reads past the page cache (``runtime.medium``): bytes that memory has say
nothing about the disk.

    pack entries     all, by the checksum in their record, neighbours with one read
    sparse files     each cell that is here whole and vouched for (``vouched.py``), clean or not
    not sealed yet   handed to ``sealing.py``, or, when somebody waits for the pass, sealed

The walk sees records, not live files: nothing is opened, touched in the books of eviction or held while it reads. What
looks wrong is looked at again by ``damage.py`` with its range held, and dropped, fenced or written again there.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from operator import itemgetter

import msgspec
import trio

from gatewayfs.cache.blocks import fingerprint_on_disk
from gatewayfs.cache.damage import Damage, Verdict
from gatewayfs.cache.extents import Extents
from gatewayfs.cache.live import Content
from gatewayfs.cache.packs import Packs, intact_on_disk
from gatewayfs.cache.scrubmarks import SETTING, Marks, ScrubSettings, Tally
from gatewayfs.cache.sealing import Sealing, wants_seal
from gatewayfs.cache.snapshot import Turn
from gatewayfs.cache.sparse import Folder
from gatewayfs.cache.vouched import vouched
from gatewayfs.errors import CacheDiskFailed, GatewayError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import PLACED_IN_FILE, PLACED_IN_PACK, Inode, Placement
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.offload import Offloader

log = logging.getLogger(__name__)

BATCH = 100
"""Records at a time: about 1 ms of the loop."""

SPAN_BYTES = 1 << 20
"""Of a pack, read at a time."""

GAP_BYTES = 64 << 10
"""Between two entries, read along rather than skipped: 64 KiB of an SSD cost less than a request."""

FIRST_S = 60.0
"""After a start other things come first."""

SAVE_S = 60.0
"""How often the position is recorded; so much is read again after a crash."""


class Scrub:
    """The scrub of one cache.

    Args:
        using: of ``ContentCache``: a live file for the block.
        turn: around what is read: programs first.
    """

    def __init__(
        self,
        meta: MetaStore,
        packs: Packs,
        folder: Folder,
        offload: Offloader,
        clock: Clock,
        damage: Damage,
        sealing: Sealing,
        using: Callable[[Inode], AbstractContextManager[Content]],
        settings: ScrubSettings,
        turn: Turn,
    ) -> None:
        self._meta, self._packs, self._folder, self._offload = meta, packs, folder, offload
        self._clock, self._damage, self._sealing, self._using = clock, damage, sealing, using
        self._settings, self._turn = settings, turn
        self._mutex = trio.Lock()
        self._rate = 0
        self._free_s = self._saved_s = 0.0
        self._marks = self._load()

    def __repr__(self) -> str:
        return f"<Scrub {'under way' if self._mutex.locked() else 'idle'} after inode {self._marks.after}>"

    def status(self) -> dict[str, object]:
        """For ``status``: the pass under way, if there is one, and the last one."""
        marks = self._marks
        under_way = bool(marks.now.started_ns and not marks.now.ended_ns)
        return {
            "under_way": msgspec.structs.asdict(marks.now) if under_way else {},
            "last_pass": msgspec.structs.asdict(marks.now if marks.now.ended_ns else marks.last),
            "waiting_for_seal": self._sealing.waiting,
        }

    async def run(self) -> None:
        """A pass per interval, for ever."""
        if not self._settings.rate_bytes_per_s:
            await trio.sleep_forever()
        await trio.sleep(FIRST_S)
        while True:
            due_ns = self._marks.now.started_ns + int(self._settings.interval_s * 1e9)
            if not self._marks.now.ended_ns or self._clock.time_ns() >= due_ns:
                await self.go_on(self._settings.rate_bytes_per_s)
            else:
                await trio.sleep(min(3600.0, self._settings.interval_s, (due_ns - self._clock.time_ns()) / 1e9))

    async def whole(self, progress: Callable[[int, Tally], None]) -> Tally:
        """A pass from the beginning, now, as fast as it goes. Raises LocalError.

        Args:
            progress: told of so many more records looked at, and what was found so far.
        """
        async with self._mutex:
            self._begin()
            await self._walk(0, progress)
        return self._marks.now

    async def go_on(self, rate_bytes_per_s: int) -> None:
        """The pass under way to its end, or a new one. An error ends it, is logged, and it goes on at the next call."""
        async with self._mutex:
            if not self._marks.now.started_ns or self._marks.now.ended_ns:
                self._begin()
            try:
                await self._walk(rate_bytes_per_s, lambda *_: None)
            except GatewayError as problem:
                log.warning("the scrub of the cache stopped: %s", problem)
                await trio.sleep(SAVE_S)

    # ------------------------------------------------------------------ inside

    def _load(self) -> Marks:
        value = self._meta.setting(SETTING)
        try:
            return msgspec.json.decode(value, type=Marks) if value else Marks()
        except msgspec.DecodeError:
            return Marks()  # of another version: begin anew

    def _save(self) -> None:
        self._saved_s = self._clock.monotonic()
        with self._meta.transaction() as tx:
            tx.put_setting(SETTING, msgspec.json.encode(self._marks))

    def _begin(self) -> None:
        last = self._marks.now if self._marks.now.ended_ns else self._marks.last
        self._marks = Marks(Tally(started_ns=self._clock.time_ns()), last)
        self._save()

    async def _walk(self, rate_bytes_per_s: int, progress: Callable[[int, Tally], None]) -> None:
        marks, self._rate = self._marks, rate_bytes_per_s
        self._saved_s = self._free_s = self._clock.monotonic()
        while batch := self._meta.inodes_after(marks.after, BATCH):
            await self._packed([inode for inode in batch if _kind(inode) == PLACED_IN_PACK])
            for inode in batch:
                if _kind(inode) == PLACED_IN_FILE:
                    await self._sparse(inode)
                marks.after, marks.ino, marks.offset = inode.ino, 0, 0
            progress(len(batch), marks.now)
            self._save_now_and_then()
            await trio.lowlevel.checkpoint()
        marks.now.ended_ns, marks.after = self._clock.time_ns(), 0
        self._save()
        log.info(
            "the cache was scrubbed: %s", ", ".join(f"{k} {v}" for k, v in msgspec.structs.asdict(marks.now).items())
        )

    @contextlib.asynccontextmanager
    async def _reading(self, length_bytes: int) -> AsyncIterator[None]:
        async with self._turn():
            yield
        if self._rate:
            self._free_s = max(self._free_s, self._clock.monotonic()) + length_bytes / self._rate
            await trio.sleep(self._free_s - self._clock.monotonic())

    async def _packed(self, batch: list[Inode]) -> None:
        for span in _spans(batch):
            placements = [placement for inode in span if (placement := inode.placement) is not None]
            length = placements[-1].offset + placements[-1].length - placements[0].offset
            path, found = self._packs.path(placements[0].pack), [False] * len(span)
            try:
                async with self._reading(length):
                    found = await self._offload.run(intact_on_disk, path, placements)
            except OSError as problem:
                # Perhaps given up meanwhile; and one unreadable block must not hide its neighbours.
                log.info("%s cannot be read at %d: %s", path.name, placements[0].offset, problem)
            for inode, placement, intact in zip(span, placements, found, strict=True):
                verdict = Verdict.SOUND if intact else await self._judge_packed(inode.ino, placement)
                self._count(verdict, placement.length)
                self._marks.now.files += 1

    async def _judge_packed(self, ino: int, placement: Placement) -> Verdict | None:
        inode = self._meta.inode(ino)
        if inode is None or inode.placement != placement:
            return None
        with self._using(inode) as content:
            return await self._damage.judge_packed(content, placement, on_disk=True)

    async def _sparse(self, inode: Inode) -> None:
        marks, placement = self._marks, inode.placement
        assert placement is not None
        here, known = Extents(placement.extents), vouched(self._meta, inode)
        start = marks.offset if marks.ino == inode.ino else 0
        marks.ino, vouched_bytes = inode.ino, 0
        for cell, end, digest in known.cells(start, inode.size) if known is not None else ():
            if not here.covers(cell, end):
                continue
            vouched_bytes += end - cell
            if not await self._cell(inode, placement, cell, end, digest, known.cell_bytes if known is not None else 0):
                return  # it is another file by now
            marks.offset = end
            self._save_now_and_then()
        marks.now.files += 1
        marks.now.unvouched_bytes += max(0, here.total_bytes - vouched_bytes - start)
        if known is None and wants_seal(inode):
            if self._rate:
                self._sealing.note(inode.ino)
            else:
                await self._sealing.seal(inode.ino)

    async def _cell(
        self, inode: Inode, placement: Placement, start: int, end: int, digest: bytes, cell_bytes: int
    ) -> bool:
        """Check one cell; False when the record has moved on."""
        path, found = self._folder.path(inode.ino, placement.pack), b""
        try:
            async with self._reading(end - start):
                found = await self._offload.run(fingerprint_on_disk, path, start, end - start, cell_bytes)
        except OSError as problem:
            log.info("bytes %d..%d of %s cannot be read: %s", start, end, path.name, problem)
        now = self._meta.inode(inode.ino)
        if now is None or now.placement is None or now.content_revision != inode.content_revision:
            return False
        verdict: Verdict | None = Verdict.SOUND
        if found != digest:
            with self._using(now) as content:
                try:
                    verdict = await self._damage.judge(content, start, end, on_disk=True)
                except CacheDiskFailed as problem:
                    verdict = None
                    self._marks.now.unreadable += 1
                    log.warning("the scrub found bytes that cannot be read: %s", problem)
        self._count(verdict, end - start)
        return True

    def _count(self, verdict: Verdict | None, length_bytes: int) -> None:
        """``verdict`` None: it is not known, or not asked any more."""
        now = self._marks.now
        now.checked_bytes += length_bytes if verdict is not None else 0
        now.dropped += verdict is Verdict.DROPPED
        now.fenced += verdict is Verdict.FENCED
        now.rewritten += verdict is Verdict.REWRITTEN

    def _save_now_and_then(self) -> None:
        if self._clock.monotonic() - self._saved_s > SAVE_S:
            self._save()


def _kind(inode: Inode) -> int:
    return 0 if inode.placement is None else inode.placement.kind


def _spans(batch: list[Inode]) -> Iterator[list[Inode]]:
    """Files whose pack entries lie near each other, in their order."""
    found = [(inode.placement.pack, inode.placement.offset, inode.placement.length, inode) for inode in batch
             if inode.placement is not None]  # fmt: skip
    span: list[Inode] = []
    span_pack = span_start = span_end = 0
    for pack, offset, length, inode in sorted(found, key=itemgetter(0, 1)):
        near = pack == span_pack and offset - span_end <= GAP_BYTES and offset + length - span_start <= SPAN_BYTES
        if span and not near:
            yield span
            span = []
        if not span:
            span_pack, span_start = pack, offset
        span.append(inode)
        span_end = offset + length
    if span:
        yield span
