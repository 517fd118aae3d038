"""Who waits for what to arrive in the bucket: the drains under way, and the queue they wait for.

``drain`` is for everything, ``arrived`` for one file or directory: a program waits in fsync, so it goes before what is
older. ``draining.py`` says when a drain ends.
"""

import operator
from collections.abc import Callable, Iterable
from functools import partial

import trio

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Parked
from gatewayfs.runtime.clock import Clock
from gatewayfs.s3.gate import Gate
from gatewayfs.upload import records
from gatewayfs.upload.draining import Drain, entries_of
from gatewayfs.upload.entries import Aside, Entry, Target
from gatewayfs.upload.reporting import name_of
from gatewayfs.upload.schedule import Schedule
from gatewayfs.upload.status import DrainReport, ParkedEntry

SLICE = 1000
"""Entries of the queue looked at before others have their turn."""


class Drains:
    """All that is waited for.

    Args:
        wake: makes the uploader's dispatcher look again.
        read_only: nothing is ever sent, so nothing is waited for.
    """

    def __init__(
        self,
        meta: MetaStore,
        schedule: Schedule,
        gate: Gate,
        clock: Clock,
        wake: Callable[[], None],
        *,
        read_only: bool,
    ) -> None:
        self._meta, self._schedule, self._gate, self._clock = meta, schedule, gate, clock
        self._wake, self._read_only = wake, read_only
        self._all: list[Drain] = []
        self.loaded = trio.Event()
        """The queue is as the records say."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def urgent(self) -> bool:
        """Whether a program waits."""
        return any(drain.urgent for drain in self._all)

    # ------------------------------------------------------------------ waiting

    async def drain(self, *, patient: bool = False) -> DrainReport:
        """See ``Uploader.drain``."""
        return await self._drained(Drain(self._meta, patient))

    async def arrived(self, ino: int) -> DrainReport:
        """``drain`` for what one inode is now. A directory: its entries, and those it lost."""
        inode = self._meta.inode(ino)
        if inode is None or records.wanted_key(self._meta, inode) is None or self._read_only:
            return DrainReport(0, ())
        belongs = entries_of(self._meta, inode) if inode.is_directory else partial(operator.eq, ino)
        return await self._drained(Drain(self._meta, belongs=belongs, urgent=True), None if inode.is_directory else ino)

    async def _drained(self, drain: Drain, only: int | None = None) -> DrainReport:
        await self.loaded.wait()
        if not drain.patient:
            self._gate.probe_now(self._clock.monotonic())
        self._all.append(drain)
        try:
            for place, entry in enumerate(self._queued(only), 1):
                self._await(drain, entry)
                if place % SLICE == 0:
                    self._wake()
                    await trio.lowlevel.checkpoint()
            drain.gathering = False
            drain.check()
            self._wake()
            await drain.done.wait()
        finally:
            self._all.remove(drain)
        return drain.report()

    def _queued(self, only: int | None) -> Iterable[Entry]:
        if only is None:
            return self._schedule
        entry = self._schedule.get(only)
        return () if entry is None else (entry,)

    def _await(self, drain: Drain, entry: Entry) -> None:
        if entry.aside is not None and not drain.awaits(entry):
            drain.stays(entry.target, entry.aside)
        elif drain.add(entry.target) and not drain.patient:
            self._schedule.retry(entry.target, self._clock.monotonic(), urgent=drain.urgent)

    # ------------------------------------------------------------------ news

    def aside(self, target: Target, why: Aside) -> None:
        """An entry stays here on purpose."""
        for drain in list(self._all):
            drain.stays(target, why)

    def ensured(self, target: Target) -> None:
        """An entry came out of our own doing: it joins those that wait for such."""
        entry = self._schedule.get(target)
        for drain in self._all:
            if drain.awaits(entry) and drain.add(target) and not drain.patient:
                self._schedule.hurry(target, self._clock.monotonic(), urgent=drain.urgent)

    def looked_at(self, target: Target) -> None:
        """A worker is done with an entry for now."""
        for drain in list(self._all):
            if not drain.looked_at(target):
                # What arrived is older than what is waited for: the next goes without settling, too.
                self._schedule.hurry(target, self._clock.monotonic(), urgent=drain.urgent)

    def gave_up(self, parked: ParkedEntry) -> None:
        """An entry will not arrive by itself."""
        for drain in list(self._all):
            drain.gave_up(parked)

    def lost(self, ino: int, why: str) -> None:
        """What was written to a file lost its name to what others wrote."""
        note = ParkedEntry(ino, self.key_of(ino), Parked(self._clock.time_ns(), why, "Conflict"))
        for drain in list(self._all):
            drain.lost(note)

    # ------------------------------------------------------------------ for messages

    def key_of(self, ino: int) -> str:
        """The object key an inode is about."""
        return name_of(self._meta, ino)

    def what_keeps(self, ino: int) -> str:
        """Why an inode is not in the bucket yet, as far as anybody knows."""
        if (closed := self._gate.closed) is not None:
            return f"the bucket does not answer: {closed.reason}"
        entry = self._schedule.get(ino)
        return "it waits for its turn" if entry is None else entry.error or entry.doing or f"it is {entry.state.value}"
