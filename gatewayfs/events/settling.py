"""An upload is told when its file's writer rests, not before.

    uploaded ──> settling record ── the file was not changed for ``settle_s`` ──> event

A file that is written to again before that is uploaded again, and the later upload takes the place of the earlier one:
one event says what the file was in the end. Records, not timers, are the truth: after a restart the times follow from
the inodes. The upload itself waits for nothing here.
"""

import heapq

import trio

from gatewayfs.events import envelope
from gatewayfs.events.outbox import SLICE, Outbox
from gatewayfs.meta.env import MetaStore, Transaction
from gatewayfs.meta.schema import Inode, Remote, Settling
from gatewayfs.runtime.clock import Clock
from gatewayfs.runtime.failpoints import failpoint, register

_SETTLE_BEFORE = register("events.settle.before", "uploads that settled, each with what is to be told of it")
_SETTLE_AFTER = register("events.settle.after", "their events, told to nobody yet")

RECHECK_S_MIN = 1.0
"""A file with newer bytes than its last upload is looked at this often at most; the next upload says so earlier."""

DISK_RETRY_S = 5.0
"""Pause after the records could not be changed."""


class Settler:
    """Uploads of one share that are not told yet."""

    def __init__(self, meta: MetaStore, clock: Clock, outbox: Outbox, settle_s: float) -> None:
        self._meta, self._clock, self._outbox, self._settle_s = meta, clock, outbox, settle_s
        self._due: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._unwanted: list[int] = []

    def __repr__(self) -> str:
        return f"<Settler {len(self)} settling>"

    def __len__(self) -> int:
        return len(self._due)

    def uploaded(self, tx: Transaction, inode: Inode, remote: Remote) -> bool:
        """The bytes of ``inode`` are at ``remote``, where they were not before; within the transaction that says so.

        Returns whether ``turn`` must be called anew.
        """
        settling = Settling(remote.key, remote.size, inode.mtime_ns)
        rest_s = self._rest_s(inode)
        if rest_s > 0:
            tx.put_settling(inode.ino, settling)
            self._look_in(inode.ino, rest_s)
            return True
        if inode.ino in self._due:
            tx.put_settling(inode.ino, None)
        self._tell(tx, settling)
        return False

    async def open(self, *, wanted: bool) -> None:
        """Find what had not settled when the last run ended.

        Args:
            wanted: False: nobody will ask for it any more, ``turn`` forgets it.
        """
        for at, (ino, _) in enumerate(self._meta.iter_settling()):
            if wanted:
                self._look_in(ino, self._rest_s(self._meta.inode(ino)))
            else:
                self._unwanted.append(ino)
            if at % SLICE == 0:
                await trio.lowlevel.checkpoint()

    @property
    def next_due_s(self) -> float:
        """When ``turn`` has something to do, on the clock's ``monotonic``; infinity: never, as things stand."""
        if self._unwanted:
            return self._clock.monotonic()
        return self._heap[0][0] if self._heap else float("inf")

    def turn(self) -> None:
        """Make events of uploads that have settled, so many at a time. Raises LocalError, NoSpace."""
        if self._unwanted:
            self._forget()
        now_s = self._clock.monotonic()
        ready: list[tuple[int, Settling]] = []
        for _ in range(SLICE):
            if not self._heap or self._heap[0][0] > now_s:
                break
            due_s, ino = heapq.heappop(self._heap)
            if self._due.get(ino) != due_s:
                continue  # its turn comes at another time
            del self._due[ino]
            settling = self._meta.settling(ino)
            rest_s = self._rest_s(self._meta.inode(ino))
            if settling is not None and rest_s > 0:
                self._look_in(ino, rest_s)
            elif settling is not None:
                ready.append((ino, settling))
        if ready:
            self._tell_all(ready)

    def _forget(self) -> None:
        with self._meta.transaction() as tx:
            for ino in self._unwanted[-SLICE:]:
                tx.put_settling(ino, None)
        del self._unwanted[-SLICE:]

    def _tell_all(self, ready: list[tuple[int, Settling]]) -> None:
        try:
            failpoint(_SETTLE_BEFORE)
            with self._meta.transaction() as tx:
                for ino, settling in ready:
                    tx.put_settling(ino, None)
                    self._tell(tx, settling)
        except BaseException:
            for ino, _ in ready:
                self._look_in(ino, DISK_RETRY_S)
            raise
        failpoint(_SETTLE_AFTER)

    def _tell(self, tx: Transaction, settling: Settling) -> None:
        origin = self._outbox.origin
        self._outbox.tell(tx, envelope.object_uploaded(origin, settling.key, settling.size, settling.mtime_ns))

    def _look_in(self, ino: int, rest_s: float) -> None:
        due_s = self._clock.monotonic() + max(0.0, rest_s)
        self._due[ino] = due_s
        heapq.heappush(self._heap, (due_s, ino))

    def _rest_s(self, inode: Inode | None) -> float:
        """How long until the last change of a file is old enough; <= 0: it is. A file that is gone changes no more."""
        if self._settle_s <= 0 or inode is None or not inode.linked:
            return 0.0
        now_ns = self._clock.time_ns()
        rest_s = self._settle_s - (now_ns - min(inode.ctime_ns, now_ns)) / 1e9
        if inode.remote is not None and inode.content_revision != inode.remote.content_revision:
            # Written to since: the upload of that will be told instead.
            return max(rest_s, RECHECK_S_MIN)
        return rest_s
