"""Watches the cache disk, and tells who would use it how it does.

What is seen of it (errors, and how long a thread has been at it without coming back) goes into ``diskstate``, which
decides. As long as anything is suspicious a *probe* asks the disk itself: 4 KiB written past the page cache, synced,
read back. It overwrites one block, so it waits for the device, not for the file system's journal or for gigabytes that
are being written back.

What follows from the state is done by those who use the disk: reads of what the bucket has too go there
(``cache/diskreads.py``), nothing new is brought here, calls that change something wait or are refused before the event
loop touches the disk (``admit``, ``refusal``). A call that is stuck in the kernel keeps its thread until the disk
answers or fails; nothing can take it back.
"""

import contextlib
import errno
import logging
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from gatewayfs.errors import CacheDiskHangs, ChangesRefused
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.diskstate import (
    STUCK_S,
    Condition,
    DiskState,
    Event,
    ProbeAnswered,
    ProbeFailed,
    ProbeWaits,
    ReadFailed,
    Unkept,
    WriteFailed,
    after,
)
from gatewayfs.runtime.offload import Offloader

log = logging.getLogger(__name__)

TICK_S = 0.25
"""How often is looked whether threads come back; costs nothing that can be measured."""

SUSPECT_S = 0.5
"""A thread that has been at the disk for so long makes us ask the disk."""

PROBE_S = 1.0
"""Pause between probes."""

NAMES_WAIT_S, DATA_WAIT_S = 3.0, 20.0
"""How long a call that changes something waits for a disk that does not answer. Controllers reset within the second.
But who changes a name keeps the kernel from looking into its directory meanwhile, so that is refused earlier."""

WAITING_MAX = 24
"""Calls that may wait so; each of them holds one of the FUSE side's requests (compare ``cache.pressure``)."""

BLOCK_BYTES = 4096

_CAME = {
    Condition.UNSTABLE: "reads of what the bucket has too go there",
    Condition.HANGING: "changes wait, reads of what the bucket has too go there",
    Condition.READ_ONLY: "changes are refused, reads of what the bucket has too go there",
}


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """For ``status``."""

    state: str
    since_ns: int
    """Wall clock; 0 while it never was anything but normal."""
    reason: str
    """Why it is not normal; ""."""
    refused: int
    """Calls that would have changed something, answered with EROFS."""
    probe_s: float | None
    """What the last probe took; None: none was needed."""


class DiskHealth:
    """See the module. The loop's thread only, but for the probe.

    Args:
        probe: asks the disk; blocks, raises OSError (``Probe``).
        offload: of a thread of its own: the disk's other threads may all be stuck.
        waiting_s: how long the oldest call of the disk's threads has been under way; 0.0: none.

    Attributes:
        unkept: asked now and then what of ours the disk does not keep; "": nothing.
    """

    def __init__(
        self, clock: Clock, probe: Callable[[], None], offload: Offloader, waiting_s: Callable[[], float]
    ) -> None:
        self.state = DiskState()
        self.unkept: Callable[[], str] = str
        self._clock, self._probe, self._offload, self._waiting_s = clock, probe, offload, waiting_s
        self._scopes: set[trio.CancelScope] = set()
        self._changed, self._wake = trio.Event(), trio.Event()
        self._waiting = self._refused = self._since_ns = 0
        self._probe_s: float | None = None

    def __repr__(self) -> str:
        return f"<DiskHealth {self.state.condition}>"

    @property
    def fit(self) -> bool:
        """Reads may wait for the disk, and it may be given what the bucket has."""
        return self.state.condition is Condition.NORMAL

    @property
    def takes_changes(self) -> bool:
        """What only this machine has may be put there."""
        return self.state.condition in (Condition.NORMAL, Condition.UNSTABLE)

    @property
    def reason(self) -> str:
        """What is wrong, as a clause; "" while nothing is."""
        return "" if self.fit else f"the cache disk is {self.state.condition}: {self.state.why}"

    def refusal(self) -> str:
        """Why the loop must not touch the disk now, lest it hang as well; "" when it may."""
        return self.reason if self.state.condition is Condition.HANGING else ""

    def status(self) -> DiskStatus:
        """How things are."""
        state = self.state
        return DiskStatus(state.condition.value, self._since_ns, state.why, self._refused, self._probe_s)

    def read_failed(self, why: object) -> None:
        """A read of a cache file failed."""
        self._note(ReadFailed(str(why)))

    def write_failed(self, why: object) -> None:
        """A write, sync or commit failed; a full disk is no failure."""
        self._note(WriteFailed(str(why)))

    @contextlib.contextmanager
    def while_fit(self) -> Iterator[trio.CancelScope]:
        """A scope that is cancelled when (and as long as) the disk is not fit; then do without it."""
        with trio.CancelScope() as scope:
            if not self.fit:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    async def admit(self, wait_s: float = NAMES_WAIT_S) -> None:
        """Before a change: wait for a disk that does not answer just now. Raises ChangesRefused: do nothing."""
        await self._until_it_answers(wait_s)
        if not self.takes_changes:
            self._refused += 1
            raise ChangesRefused(self.reason)

    async def answers(self) -> None:
        """Before earlier changes are made durable: the same, and tried as long as the disk answers at all.

        Raises CacheDiskHangs: they are not.
        """
        await self._until_it_answers(DATA_WAIT_S)
        if why := self.refusal():
            raise CacheDiskHangs(why)

    async def _until_it_answers(self, wait_s: float) -> None:
        with trio.move_on_after(wait_s):
            while self.state.condition is Condition.HANGING and self._waiting < WAITING_MAX:
                self._waiting += 1
                try:
                    await self._changed.wait()
                finally:
                    self._waiting -= 1

    async def run(self) -> None:
        """Watch, for ever."""
        while True:
            with trio.move_on_after(TICK_S):
                await self._wake.wait()
            self._wake = trio.Event()
            if (unkept := self.unkept()) != self.state.unkept:
                self._note(Unkept(unkept))
            if self.state.suspicious or self._waiting_s() > SUSPECT_S:
                await self._ask()
                await trio.sleep(PROBE_S)

    async def _ask(self) -> None:
        """One probe, to its end."""
        answered = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._probed, answered)
            with trio.move_on_after(STUCK_S):
                await answered.wait()
            if not answered.is_set():
                self._note(ProbeWaits())

    async def _probed(self, answered: trio.Event) -> None:
        started_s = self._clock.monotonic()
        try:
            await self._offload.run(self._probe, abandon_on_cancel=True)
        except OSError as problem:
            self._note(ProbeFailed(problem.strerror or str(problem)))
        else:
            self._probe_s = self._clock.monotonic() - started_s
            self._note(ProbeAnswered(self._probe_s))
        finally:
            answered.set()

    def _note(self, event: Event) -> None:
        before, self.state = self.state, after(self.state, event, self._clock.monotonic())
        if self.state.suspicious:
            self._wake.set()
        if self.state.condition is before.condition:
            return
        self._since_ns = self._clock.time_ns()
        if self.fit:
            log.info("the cache disk is well again")
        else:
            log.warning("%s; %s", self.reason, _CAME[self.state.condition])
            for scope in self._scopes:
                scope.cancel()
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def unwatched(clock: Clock, offload: Offloader) -> DiskHealth:
    """For tools and tests: nobody probes, so the disk passes for well until a few errors were met."""
    return DiskHealth(clock, _nothing, offload, float)


def _nothing() -> None:
    """No probe."""


class Probe:
    """Writes a block of one file past the page cache, syncs it, reads it back. For one thread at a time.

    Raises OSError; EIO also when the disk gives back something else. A full disk is no failure.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        # What O_DIRECT writes must begin at a multiple of the block size: anonymous pages do.
        self._sent, self._found = mmap.mmap(-1, BLOCK_BYTES), mmap.mmap(-1, BLOCK_BYTES)

    def __call__(self) -> None:
        self._number += 1
        self._sent[:] = self._number.to_bytes(8, "little") * (BLOCK_BYTES // 8)
        fd = self._open()
        try:
            os.pwritev(fd, [self._sent], 0)
            os.fdatasync(fd)
            os.preadv(fd, [self._found], 0)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return
        finally:
            os.close(fd)
        if self._found[:] != self._sent[:]:
            raise OSError(errno.EIO, "it gives back other bytes than it was given")

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self._path, flags | os.O_DIRECT, 0o600)
        except OSError as problem:
            if problem.errno != errno.EINVAL:  # tmpfs and the like
                raise
        return os.open(self._path, flags, 0o600)
